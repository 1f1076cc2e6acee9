"""Servers of llama.cpp's RPC backend: whether they answer, before llama.cpp asks them."""

from __future__ import annotations

import socket
import struct
from collections.abc import Sequence

__all__ = ["reachable"]

_TIMEOUT = 5.0  # seconds

# The first message of llama.cpp's protocol: a command, the length of what follows, and what the
# client can do beyond TCP, which is nothing. The answer is a length, the version and the same of
# the server. See ggml/src/ggml-rpc/ggml-rpc.cpp.
_HELLO, _CAPABILITIES = 14, 24  # a number, and bytes
_VERSION = (7, 0)  # major, which must be the same, and minor, which may be lower
_ANSWER = struct.Struct(f"<Q4B{_CAPABILITIES}x")

# A server talks to one client at a time, so it does not answer a second connection of a process
# that uses it.
_used: set[str] = set()


def reachable(servers: Sequence[str]) -> list[str]:
    """Returns the addresses, once all of them have answered as such servers do.

    llama.cpp ends the process if a server does not, and waits without end for one that is busy.

    Args:
        servers: addresses "host:port".

    Raises:
        TypeError: servers is one str.
        ValueError: an address is no "host:port".
        ConnectionError: a server does not answer, is busy with another client or is no server of
            this kind.
    """
    if isinstance(servers, str):
        raise TypeError(f"rpc_servers must be a list of 'host:port', got the str {servers!r}")
    for server in servers:
        host, _, port = server.rpartition(":")
        if not host or not port.isdecimal() or not 0 < int(port) < 65536:
            raise ValueError(f"rpc_servers must have addresses 'host:port', got {server!r}")
        _greet(server, host, int(port))
    return list(servers)


def _greet(server: str, host: str, port: int) -> None:
    """Connects to a server and, unless this process has used it before, greets it."""
    try:
        with socket.create_connection((host, port), _TIMEOUT) as connection:
            if server in _used:
                return
            connection.sendall(struct.pack(f"<BQ{_CAPABILITIES}x", _HELLO, _CAPABILITIES))
            answer = _received(connection, _ANSWER.size)
    except TimeoutError:
        raise ConnectionError(
            f"rpc_servers: {server!r} does not answer within {_TIMEOUT:g} s: it is not there, or it"
            " serves another client"
        ) from None
    except OSError as error:
        raise ConnectionError(f"rpc_servers: {server!r} does not answer: {error}") from None
    if len(answer) < _ANSWER.size or _ANSWER.unpack(answer)[0] != _ANSWER.size - 8:
        raise ConnectionError(f"rpc_servers: {server!r} is no server of llama.cpp's RPC backend")
    _, major, minor, *_ = _ANSWER.unpack(answer)
    if major != _VERSION[0] or minor > _VERSION[1]:
        raise ConnectionError(
            f"rpc_servers: {server!r} has version {major}.{minor} of llama.cpp's protocol, expected"
            f" {_VERSION[0]}.{_VERSION[1]}"
        )
    _used.add(server)


def _received(connection: socket.socket, n: int) -> bytes:
    """Returns the next n bytes, or fewer if the server ends the connection."""
    answer = b""
    while len(answer) < n and (piece := connection.recv(n - len(answer))):
        answer += piece
    return answer
