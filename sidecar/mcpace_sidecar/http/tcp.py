"""What the kernel is asked to do about connections whose other side has silently gone."""

from __future__ import annotations

import socket
from typing import Any, Final

_OPTIONS: Final = tuple(
    (level, getattr(socket, name), value)
    for level, name, value in (
        (socket.SOL_SOCKET, "SO_KEEPALIVE", 1),
        (socket.IPPROTO_TCP, "TCP_KEEPIDLE", 60),
        (socket.IPPROTO_TCP, "TCP_KEEPALIVE", 60),  # the same, as macOS calls it
        (socket.IPPROTO_TCP, "TCP_KEEPINTVL", 15),
        (socket.IPPROTO_TCP, "TCP_KEEPCNT", 4),
    )
    if hasattr(socket, name)
)


def probe(opened: Any) -> None:
    """Probe after a minute of silence, and give up after another (RFC 9293, section 3.8.4).

    `opened` is a socket, or stands for one; what a listening one is told holds for all it accepts.
    """
    for level, option, value in _OPTIONS:
        opened.setsockopt(level, option, value)
