"""What pods told of a running server, all replicas together: what is judged, and what is said of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mcpace_operator.status.performance import Performance


@dataclass(frozen=True, slots=True)
class Live:
    """What was seen of a running server."""

    performance: Performance
    replicas_asked: int = 0
    read_only: frozenset[str] = frozenset()
    """Tools that the server calls read-only."""
    scraped: float | None = None
    """Seconds since the metrics were last read, by the replica that was read last."""
    doors: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    """Door -> (requests, connections opened)."""
    started: int | None = None
    """Processes of stdio that were started in the last five minutes or more; None where it is not known."""
    killed_for_memory: str | None = None
    memory: tuple[int, ...] = ()
    """Bytes of the largest server container, a reading every five minutes."""
    rules: tuple[tuple[str, str], ...] = ()
    """Rules without effect: reason and message."""
    missing_secrets: tuple[str, ...] = ()
    has_sessions: bool = False
    """Whether clients keep sessions in a replica."""
    relays: bool = False
    """Whether every replica passes what belongs to a session to the one that holds it."""
    full: bool = False
    """Whether every slot was taken, look after look."""

    @property
    def conditions(self) -> tuple[Any, ...]:
        """What conditions are made of."""
        return self.rules, self.missing_secrets, self.has_sessions, self.relays, self.full
