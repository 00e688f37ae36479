"""What a process is given before it reads its configuration."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from mcpace_sidecar.contract.budget import UNLIMITED
from mcpace_sidecar.contract.config import SidecarConfig
from mcpace_sidecar.contract.report import Item, Report
from mcpace_sidecar.http.address import Address
from mcpace_sidecar.server.usage import unseen
from mcpace_sidecar.stdio.channel import Launch

Load = Callable[[], tuple[SidecarConfig, tuple[str, ...]]]
"""Reads the configuration, and names the fields that are unknown; ConfigError."""
Usage = Callable[[], Iterator[tuple[str, float]]]
"""Gives (metric, value) of what the server itself uses."""


def _no_lines() -> Mapping[str, int]:
    return {}


def _unjudged(report: Report) -> tuple[Item, ...]:
    del report
    return ()


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line and the environment say; the configuration says the rest.

    `watched` are the files whose change makes `load` worth calling again. The URLs and the
    token are secrets from the environment or from files; `repr` leaves them out.
    """

    load: Load
    watched: tuple[Path, ...]
    listen: Address
    admin_listen: Address
    upstream: Address
    movable: tuple[Address, ...] = ()
    """Which of both nobody asked for: where one is taken, any free port is listened on instead."""
    name: str = "default/server"
    keys: Path | None = None
    limits_url: str | None = field(default=None, repr=False)
    cache_url: str | None = field(default=None, repr=False)
    redis_authority: str | None = None
    """Certificates in PEM by which a Redis over TLS is verified; None is the system's."""
    admin_token: str | None = field(default=None, repr=False)
    session_keys: tuple[bytes, ...] = field(default=(), repr=False)
    """By which session ids are sealed: the key, and the one before; none: one is drawn."""
    relay_listen: Address | None = None
    """Where the other sidecars of this server come in; None: there are none."""
    peers: Address | None = None
    """The names under which they are found where Redis does not say, with commas, and their port."""
    memory: int = UNLIMITED
    """Bytes that this process may use."""
    files: int = 1024
    """Files and sockets that it may open."""
    launch: Launch | None = None
    """How processes of a server of stdio are started; None: by connections to `upstream`."""
    lines: Callable[[], Mapping[str, int]] = _no_lines
    """In which line of the manifest each field of the configuration stands, where there is one."""
    server_usage: Usage = unseen
    judge: Callable[[Report], tuple[Item, ...]] = _unjudged
    """What the checklist says of a report: whoever starts the sidecar may know the whole manifest."""
    in_pod: bool = False
    """Whether nothing but this server shares the loopback."""
    leasing: bool = True
    """Whether tokens of busy clients are taken from Redis ahead of their use."""
