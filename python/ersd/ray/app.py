"""Replicas of `ersd serve` behind Ray Serve."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, model_validator
from ray import serve  # type: ignore[import-not-found,unused-ignore]
from starlette.applications import Starlette

from ersd import Generator
from ersd.serve import Settings, create_app
from ersd.serve.server import Server

__all__ = ["AppArgs", "build_app"]

_HEALTH_PERIOD_S = 5  # between two checks of a replica
_HEALTH_POLL_S = 0.01  # the models are there when the app begins, so it is ready in a moment


class AppArgs(BaseModel):
    """The arguments of `build_app`, as ``serve run`` and Ray's configuration files give them.

    Those of the models have the names that they have in `Generator`.
    """

    model_config = ConfigDict(extra="forbid", protected_namespaces=())

    model: str | None = Field(None, description="The target; None for the default pair.")
    draft: str | None = Field(None, description="The draft.")
    n_parallel: int = Field(4, ge=1, description="Generations that run at once in a replica.")
    n_ctx: int = 0
    n_ctx_total: int = 0
    n_batch: int = 512
    n_threads: int = Field(1, ge=1, description="CPU threads of a replica, and its CPUs in Ray.")
    n_gpu_layers: int = -1
    num_gpus: float = Field(0, ge=0, description="GPUs of a replica.")
    exact: bool | None = None
    chat_template: str | None = None
    rpc_servers: tuple[str, ...] = ()
    name: str | None = Field(None, description="The name of the model in answers.")
    api_keys: tuple[str, ...] = Field((), description="See `ersd.serve.Settings`.")
    queue: int = Field(64, ge=0, description="Generations that may wait in a replica.")
    timeout_s: float | None = 600.0
    drain_s: float = Field(30.0, description="Seconds for running answers when a replica ends.")
    min_replicas: int = Field(1, ge=0)
    max_replicas: int = Field(1, ge=1)

    @model_validator(mode="before")
    @classmethod
    def _split(cls, given: Any) -> Any:
        """Lets a text stand for several keys or servers, which commas separate."""
        if not isinstance(given, Mapping):
            return given
        texts = {name: given.get(name) for name in ("api_keys", "rpc_servers")}
        lists = {name: tuple(t.split(",")) for name, t in texts.items() if isinstance(t, str)}
        return {**given, **lists}

    @model_validator(mode="after")
    def _check_replicas(self) -> AppArgs:
        if self.max_replicas < self.min_replicas:
            raise ValueError(
                f"max_replicas must be at least min_replicas, {self.min_replicas}, got "
                f"{self.max_replicas}"
            )
        return self

    def load(self) -> Generator:
        """Loads the models. The errors are those of `Generator`."""
        options: dict[str, Any] = {
            name: getattr(self, name)
            for name in ("n_ctx", "n_ctx_total", "n_batch", "n_parallel", "n_threads")
        }
        options |= {"n_gpu_layers": self.n_gpu_layers, "exact": self.exact}
        options |= {"chat_template": self.chat_template}
        options |= {"rpc_servers": list(self.rpc_servers) or None}
        if self.model is None:
            return Generator.default(**options)
        return Generator(self.model, self.draft, **options)

    def settings(self) -> Settings:
        """Returns the settings of each replica's server."""
        return Settings(
            api_keys=self.api_keys,
            alias=self.name,
            queue_size=self.queue,
            timeout_s=self.timeout_s,
            drain_s=self.drain_s,
        )


def build_app(args: AppArgs | Mapping[str, Any]) -> serve.Application:
    """Returns an application of Ray Serve, whose replicas run the app of `ersd serve`.

    >>> serve run ersd.ray:build_app model=target.gguf n_parallel=4 max_replicas=8

    A replica takes as many requests as it has places and room in its queue; others wait in Ray.
    Replicas are added while more requests are under way than there are places.

    Args:
        args: see `AppArgs`. Numbers may be texts, as ``serve run`` has them.

    Raises:
        ValueError: an argument is unknown, or a value is not valid.
    """
    args = AppArgs.model_validate(args)
    settings = args.settings()  # a number that is out of range is told here, not by a replica
    configured = serve.deployment(
        name="ersd",
        max_ongoing_requests=args.n_parallel + args.queue,
        autoscaling_config={
            "min_replicas": args.min_replicas,
            "initial_replicas": max(1, args.min_replicas),
            "max_replicas": args.max_replicas,
            "target_ongoing_requests": args.n_parallel,
        },
        ray_actor_options={"num_cpus": args.n_threads, "num_gpus": args.num_gpus},
        health_check_period_s=_HEALTH_PERIOD_S,
        graceful_shutdown_timeout_s=args.drain_s,
    )
    replica = serve.ingress(_builder(args.load, settings))(Replica)
    application: serve.Application = configured(replica).bind()
    return application


def _builder(load: Callable[[], Generator], settings: Settings) -> Callable[[], Starlette]:
    """Returns a function that makes the app on a replica, with the models loaded."""

    def build() -> Starlette:
        generator = load()  # here, so that an error is one of the replica's constructor
        return create_app(lambda: generator, settings)

    return build


class Replica:
    """A replica. Ray adds the app, and asks for its health before and while it gets requests."""

    app: Starlette  # of the class that `serve.ingress` makes of this one

    async def check_health(self) -> None:
        """Raises if the replica cannot answer, for which Ray replaces it."""
        server: Server = self.app.state.server
        while server.is_loading and server.failure is None:
            await asyncio.sleep(_HEALTH_POLL_S)
        if server.failure is not None:
            raise server.failure
