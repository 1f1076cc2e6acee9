"""The state of a server: its models, its jobs and its figures."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import cast

from starlette.requests import Request

from ersd import Generator
from ersd.engine.options import Options
from ersd.serve.errors import ApiError
from ersd.serve.jobs import Jobs
from ersd.serve.logs import log
from ersd.serve.metrics import Metrics
from ersd.serve.settings import Settings

__all__ = ["Server", "server_of"]


class Server:
    """The state of an app, which its endpoints find as ``request.app.state.server``.

    Attributes:
        settings: what the operator decided.
        metrics: the figures that /metrics shows.
        created: when the server began, in seconds since 1970.
        failure: why the models could not be loaded; None if they could, or are being loaded.
    """

    def __init__(self, load: Callable[[], Generator], settings: Settings) -> None:
        """load: loads the models; it is called once, in a thread."""
        self.settings = settings
        self.metrics = Metrics()
        self.created = int(time.time())
        self.failure: Exception | None = None
        self._load = load
        self._generator: Generator | None = None
        self._jobs: Jobs | None = None

    async def load(self) -> None:
        """Loads the models in a thread, while the server says that it is loading."""
        began = time.perf_counter()
        try:
            generator = await asyncio.to_thread(self._load_and_check)
        except Exception as error:
            self.failure = error
            return
        self._jobs = Jobs(generator, self.settings, self.metrics)
        self._generator = generator
        fields = {
            "model": self.model_name,
            "seconds": round(time.perf_counter() - began, 1),
            "n_parallel": generator.n_parallel,
            "n_ctx": generator.n_ctx,
            "exact": generator.exact.holds,
        }
        log.info("ready", extra={"fields": fields})

    def _load_and_check(self) -> Generator:
        """Loads the models. Raises ValueError if the operator's options are not valid for them."""
        generator = self._load()
        if self.settings.options:
            options: Options = {**self.settings.options, "max_tokens": 0}
            generator.generate([0], **options)
        return generator

    @property
    def is_loading(self) -> bool:
        """Whether the models are not there yet."""
        return self._generator is None

    @property
    def generator(self) -> Generator:
        """The models. Raises ApiError 503 while they are loaded."""
        if self._generator is None:
            raise _loading()
        return self._generator

    @property
    def jobs(self) -> Jobs:
        """The requests that generate. Raises ApiError 503 while the models are loaded."""
        if self._jobs is None:
            raise _loading()
        return self._jobs

    @property
    def model_name(self) -> str:
        """The name of the model in answers. Raises ApiError 503 while the models are loaded."""
        return self.settings.alias or Path(self.generator.target.path).name

    async def drain(self) -> None:
        """Refuses new requests and waits for those that run, but not longer than drain_s."""
        if self._jobs is not None:
            await self._jobs.drain(self.settings.drain_s)


def _loading() -> ApiError:
    return ApiError(
        503,
        "the model is being loaded",
        kind="unavailable_error",
        code="loading",
        headers={"Retry-After": "1"},
    )


def server_of(request: Request) -> Server:
    """Returns the server of the app that got a request."""
    return cast(Server, request.app.state.server)
