"""Servers of llama.cpp's RPC backend: whether they answer, before llama.cpp asks them."""

from __future__ import annotations

import socket
from collections.abc import Sequence

__all__ = ["reachable"]

_TIMEOUT = 5.0  # seconds


def reachable(servers: Sequence[str]) -> list[str]:
    """Returns the addresses, once all of them have accepted a connection.

    llama.cpp ends the process if a server does not.

    Args:
        servers: addresses "host:port".

    Raises:
        TypeError: servers is one str.
        ValueError: an address is no "host:port".
        ConnectionError: a server does not answer.
    """
    if isinstance(servers, str):
        raise TypeError(f"rpc_servers must be a list of 'host:port', got the str {servers!r}")
    for server in servers:
        host, _, port = server.rpartition(":")
        if not host or not port.isdecimal() or not 0 < int(port) < 65536:
            raise ValueError(f"rpc_servers must have addresses 'host:port', got {server!r}")
        try:
            socket.create_connection((host, int(port)), _TIMEOUT).close()
        except OSError as error:
            raise ConnectionError(f"rpc_servers: {server!r} does not answer: {error}") from None
    return list(servers)
