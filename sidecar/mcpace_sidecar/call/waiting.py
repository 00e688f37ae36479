"""What a call may wait for, one such at a time: a token, a kept result, a slot, the server, its parts."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Protocol

from mcpace_sidecar.bulkhead.slots import Bulkhead, Queued
from mcpace_sidecar.telemetry.faults import Site


class Waiting(Protocol):
    """What will lead a call on: one of those below, a `Lookup`, an `Asking` of the server, a `Fanout`."""

    def leads_on(self) -> bool:
        """Whether it is known to lead the call on. What stores are asked comes soon, and is not."""

    def cancel(self) -> None:
        """Nobody waits any more."""

    def pause(self, paused: bool) -> None:
        """The client reads too slowly (True), or again (False)."""


class Releasing:
    """What knows who asks the server, and is known there."""

    def release(self) -> None:
        """The call has ended: no cycle stays."""
        raise NotImplementedError


class Parked:
    """A judgement of a token, which is awaited: the call goes on with what it says."""

    def __init__(
        self, answer: Any, go_on: Callable[[Any], None], broke: Callable[[Site, Exception], None]
    ) -> None:
        """`broke`: told what is raised."""
        loop = asyncio.get_running_loop()
        self._task: asyncio.Task[None] = loop.create_task(_resume(answer, go_on, broke))

    def leads_on(self) -> bool:
        """Whether it is still awaited."""
        return not self._task.done()

    def cancel(self) -> None:
        """Nobody waits for it."""
        self._task.cancel()

    def pause(self, paused: bool) -> None:
        """Nothing is read."""


async def _resume(
    answer: Any, go_on: Callable[[Any], None], broke: Callable[[Site, Exception], None]
) -> None:
    try:
        go_on(await answer)
    except Exception as error:  # noqa: BLE001 - because whatever it is, it is this call's end alone
        broke("token", error)


class InLine:
    """A place in the line for a slot."""

    def __init__(self, bulkhead: Bulkhead, call: Queued) -> None:
        self._bulkhead = bulkhead
        self._call = call

    def leads_on(self) -> bool:
        """The line moves, or it is swept."""
        return True

    def cancel(self) -> None:
        """Leave it."""
        self._bulkhead.withdraw(self._call)

    def pause(self, paused: bool) -> None:
        """Nothing is read."""
