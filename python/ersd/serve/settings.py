"""What the operator of a server decides."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Literal

from ersd.engine.options import Options

__all__ = ["Settings"]


@dataclass(frozen=True)
class Settings:
    """Settings of a server. Those of the models belong to `ersd.Generator`.

    Attributes:
        host: the address to listen on.
        port: the port to listen on; 0 for a free one.
        api_keys: the keys of which a request must bring one; empty to serve everybody.
        alias: the name of the model in answers; None for the name of the target's file.
        queue_size: how many generations may wait while n_parallel of them run.
        timeout_s: seconds that a request may take, its time in the queue included; None for ever.
        connection_timeout_s: seconds in which a request must have arrived whole, for which a client
            may leave an answer unread, and after which an idle connection is closed.
        drain_s: seconds that running answers have to finish in after SIGTERM.
        max_body_bytes: the largest body of a request.
        max_header_bytes: the largest head of a request.
        cors_origins: the origins whose pages may use the server beside its own page; "localhost"
            for those of this machine, "*" for all.
        page: whether there is a page at /.
        log_format: "json" for one object per line, or "text".
        log_text: whether prompts and answers are logged.
        options: of `ersd.Options`, where a request does not say otherwise.
    """

    host: str = "127.0.0.1"
    port: int = 8080
    api_keys: tuple[str, ...] = ()
    alias: str | None = None
    queue_size: int = 64
    timeout_s: float | None = 600.0
    connection_timeout_s: int = 75
    drain_s: float = 30.0
    max_body_bytes: int = 8 << 20
    max_header_bytes: int = 16 << 10
    cors_origins: tuple[str, ...] = ()
    page: bool = True
    log_format: Literal["json", "text"] = "text"
    log_text: bool = False
    options: Options = field(default_factory=Options)

    def __post_init__(self) -> None:
        """Raises ValueError if a number is out of range."""
        for name, least in _LEAST.items():
            value = getattr(self, name)
            if value is not None and not value >= least:  # which is also true of NaN
                raise ValueError(f"{name} must be at least {least}, got {value}")
        if self.port > 65535:
            raise ValueError(f"port must be at most 65535, got {self.port}")
        for origin in self.cors_origins:
            # Browsers send origins in this form, and anything else would admit nobody.
            named = origin in ("*", "localhost")
            if not named and not re.fullmatch(r"[a-z][a-z0-9+.-]*://[^/\s]+", origin):
                raise ValueError(
                    "cors_origins must be like 'https://app.example', or 'localhost', or '*', "
                    f"got {origin!r}"
                )


_LEAST = {
    "port": 0,
    "queue_size": 0,
    "timeout_s": 0,
    "drain_s": 0,
    "connection_timeout_s": 1,
    "max_body_bytes": 1,
    "max_header_bytes": 1024,
}
