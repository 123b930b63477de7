"""Messages between sandbox and user: JSON after its length, nothing that executes or grows unbounded."""

from __future__ import annotations

import json
import socket
import struct
from collections.abc import Iterable
from typing import Any

_HEAD = struct.Struct("!I")
_CHUNK = 1 << 16


class WireError(Exception):
    """The bytes that arrived are no message; ``str()`` says why."""


class Frames:
    """Cuts a stream of bytes into messages of at most ``limit`` bytes each."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._data = bytearray()

    def feed(self, data: bytes) -> None:
        """Add bytes that have arrived."""
        self._data += data

    def take(self) -> dict[str, Any] | None:
        """The next message, or None while it is incomplete. Raises WireError."""
        if len(self._data) < _HEAD.size:
            return None
        (size,) = _HEAD.unpack_from(self._data)
        if size > self.limit:
            raise WireError(f"a message of {size} bytes; at most {self.limit} are read")
        if len(self._data) < _HEAD.size + size:
            return None
        body = bytes(self._data[_HEAD.size : _HEAD.size + size])
        del self._data[: _HEAD.size + size]
        try:
            message = json.loads(body)
        except (ValueError, RecursionError):
            raise WireError("bytes that are not JSON") from None
        if not isinstance(message, dict):
            raise WireError("JSON that is not an object")
        return message


def packed(message: dict[str, Any]) -> bytes:
    """The bytes of ``message`` on a connection."""
    body = json.dumps(message).encode()
    return _HEAD.pack(len(body)) + body


def send(channel: socket.socket, message: dict[str, Any], descriptors: Iterable[int] = ()) -> None:
    """Send ``message``, and open file descriptors with it. Raises OSError."""
    data, descriptors = packed(message), list(descriptors)
    sent = socket.send_fds(channel, [data], descriptors) if descriptors else channel.send(data)
    if sent < len(data):
        channel.sendall(data[sent:])


def receive(channel: socket.socket, frames: Frames, descriptors: int = 0) -> tuple[dict[str, Any], list[int]]:
    """The next message and up to ``descriptors`` file descriptors. Raises WireError; EOFError at the end."""
    received: list[int] = []
    while (message := frames.take()) is None:
        data, new, _, _ = socket.recv_fds(channel, _CHUNK, descriptors)
        received += new
        if not data:
            raise EOFError
        frames.feed(data)
    return message, received
