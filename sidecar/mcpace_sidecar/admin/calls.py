"""What is going on, for whoever looks why calls hang: the parts they pass, and what each call waits for.

Each says of itself what it may (its `repr`): neither arguments nor credentials, and no names that
callers make up.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Final

from mcpace_sidecar.call.plane import Plane
from mcpace_sidecar.egress.doors import Doors

MOST: Final = 300
"""Calls that are shown: those that have been there for the longest."""


def lines(plane: Plane, doors: Doors, links: Sequence[object]) -> Iterator[str]:
    """A line each."""
    yield repr(plane.connections)
    yield repr(plane.bulkhead)
    yield repr(plane.pool)
    yield from map(repr, plane.pool.parts())
    yield repr(plane.flights)
    yield repr(plane.limits)
    yield repr(plane.results)
    for name, door in doors.open.items():
        yield f"door {name}: {door.pool!r}"
    for link in links:
        yield repr(link)
    calls = sorted(plane.in_flight, key=lambda answer: answer.call.started)
    yield f"{len(calls)} calls in flight, the longest first"
    for call in islice(calls, MOST):
        yield repr(call)
    if len(calls) > MOST:
        yield f"and {len(calls) - MOST} more"
