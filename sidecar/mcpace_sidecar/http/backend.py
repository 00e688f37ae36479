"""Who answers requests: the server over HTTP, or its processes. The path of a call knows no difference."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Final

from mcpace_sidecar.contract.config import SidecarConfig
from mcpace_sidecar.contract.report import Pooled, Processes
from mcpace_sidecar.http.address import Address
from mcpace_sidecar.http.ledger import Ledger
from mcpace_sidecar.http.receiver import Receiver, Ticket

UNLIMITED: Final = 64 * 1024 * 1024
"""Bytes of answers that are gathered, where no budget says otherwise."""


class Backend:
    """Takes requests, and how it has been doing. Answers nobody before `request` has returned."""

    def __init__(self, address: Address, on_error: Callable[[Exception], None]) -> None:
        """`on_error` is told what receivers raise, and readers of answers."""
        self.address = address
        """What it is called: the Host that it sees."""
        self.on_error = on_error
        self.asked = 0.0
        """Since when it is asked something without having said anything; 0: it is not."""
        self.heard = -math.inf
        """When it last said anything."""
        self.served = -math.inf
        """When it last answered a request, be it with a refusal, and not with an error of its own."""
        self.gathered = Ledger(UNLIMITED)
        """What is held of answers that are not whole yet, here and by whoever reads them."""

    def hear(self, now: float) -> None:
        """It has said something."""
        self.heard = now
        self.asked = 0.0

    def adopt(self, config: SidecarConfig) -> None:
        """Use what this says from the next request on."""
        raise NotImplementedError

    def request(self, request: Sequence[bytes], receiver: Receiver, patience: float | None) -> Ticket:
        """Take a request. `request`: it whole, or in pieces, of which the first begins the head, and the
        last is the body.

        `patience`: the seconds it may be silent. None: any, and it opens a stream.
        """  # noqa: D205 - because it reads on
        raise NotImplementedError

    def at_work(self, now: float) -> bool:
        """Whether it is at work on a call, and not silent for longer than it may be."""
        raise NotImplementedError

    def sweep(self, now: float) -> None:
        """Fail what waited too long, and close what was idle too long; about twice a second."""
        raise NotImplementedError

    def counted(self) -> Processes | None:
        """What is reported of the server's processes; None where they are none of its own."""
        return None

    def pooled(self) -> Pooled | None:
        """What is reported of connections to the server; None where there are none."""
        return None

    def parts(self) -> Sequence[object]:
        """What it is made of, for whoever looks why calls hang; each says of itself what it may."""
        return ()

    async def close(self) -> None:
        """Close everything."""
        raise NotImplementedError
