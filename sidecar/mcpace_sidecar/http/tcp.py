"""What the kernel is asked to do: about other sides that have gone, and about what it holds itself."""

from __future__ import annotations

import socket
from typing import Any, Final

UNSENT: Final = 128 * 1024
"""Bytes that the kernel takes of an answer before its client has room for them."""
_PROBING: Final = (
    (socket.SOL_SOCKET, "SO_KEEPALIVE", 1),
    (socket.IPPROTO_TCP, "TCP_KEEPIDLE", 60),
    (socket.IPPROTO_TCP, "TCP_KEEPALIVE", 60),  # the same, as macOS calls it
    (socket.IPPROTO_TCP, "TCP_KEEPINTVL", 15),
    (socket.IPPROTO_TCP, "TCP_KEEPCNT", 4),
)
_LISTENING: Final = (*_PROBING, (socket.IPPROTO_TCP, "TCP_NOTSENT_LOWAT", UNSENT))

_WATCHING: Final = (
    (socket.SOL_SOCKET, "SO_KEEPALIVE", 1),
    (socket.IPPROTO_TCP, "TCP_KEEPIDLE", 5),
    (socket.IPPROTO_TCP, "TCP_KEEPALIVE", 5),
    (socket.IPPROTO_TCP, "TCP_KEEPINTVL", 2),
    (socket.IPPROTO_TCP, "TCP_KEEPCNT", 3),
    (socket.IPPROTO_TCP, "TCP_USER_TIMEOUT", 5000),
)


def probe(opened: Any) -> None:
    """Probe after a minute of silence, and give up after another (RFC 9293, section 3.8.4).

    `opened` is a socket, or stands for one.
    """
    _set(opened, _PROBING)


def watch(opened: Any) -> None:
    """Notice within seconds that the other side's machine is gone, whether asked or not (RFC 5482)."""
    _set(opened, _WATCHING)


def serve_modestly(listening: Any) -> None:
    """The same for all that a socket accepts, and let the kernel hold little for those who do not read."""
    _set(listening, _LISTENING)


def _set(opened: Any, options: tuple[tuple[int, str, int], ...]) -> None:
    for level, name, value in options:
        option = getattr(socket, name, None)
        if option is not None:
            opened.setsockopt(level, option, value)
