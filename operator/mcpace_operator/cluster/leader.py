"""Which of several operators works: the one that holds the Lease. The others wait, ready to.

Times as in client-go's leader election: a lease of 15 s, given up by its holder after 10 s without
renewal, renewed every 2 s. Any failure counts as not renewed, and time is the monotonic clock's; of a
holder elsewhere only whether its Lease changes is looked at, never its clock. Two leaders for a moment
would do no harm: every write is an idempotent apply by one field manager.
"""

from __future__ import annotations

import asyncio
import logging
import time
from datetime import UTC, datetime
from typing import Any, Final

from mcpace_operator.cluster.client import ApiError, Cluster

log = logging.getLogger(__name__)

DURATION: Final = 15.0
DEADLINE: Final = 10.0
RETRY: Final = 2.0


class Leadership:
    """This operator's part in the election. `leading` is whether it works now."""

    def __init__(self, cluster: Cluster, namespace: str, identity: str) -> None:
        self.leading = False
        self.problem: str | None = None
        """Why the Lease could not be asked for or renewed."""
        self._cluster = cluster
        self._namespace = namespace
        self._identity = identity
        self._seen: tuple[str, str] = ("", "")
        self._seen_at = 0.0
        self._renewed = 0.0
        self._version = ""

    async def acquire(self) -> None:
        """Wait until the Lease is ours."""
        waiting = False
        while not await self._try():
            if not waiting:
                waiting = True
                log.info("Waiting: %s leads", self._seen[0] or "another")
            await asyncio.sleep(RETRY)
        self.leading = True
        log.info("Leading, as %s", self._identity)

    async def hold(self) -> None:
        """Renew the Lease; returns when it is lost."""
        while time.monotonic() < self._renewed + DEADLINE:
            await asyncio.sleep(RETRY)
            await self._try()
        self.leading = False
        log.error("The lease was not renewed in %g s", DEADLINE)

    async def release(self) -> None:
        """Let another lead at once."""
        if not self.leading:
            return
        self.leading = False
        try:
            await self._write("", 1)
        except ApiError as error:
            log.info("The lease was not released: %s", error)

    async def _try(self) -> bool:
        """Take or renew the Lease if it is free; whether it is ours now."""
        began = time.monotonic()
        try:
            lease = await self._cluster.lease(self._namespace)
            if not self._may_take(lease):
                self.problem = None
                return False
            await self._write(self._identity, int(DURATION), lease)
        except ApiError as error:
            self.problem = f"The Lease cannot be had: {error}"
            log.info("The lease was not renewed: %s", error)
            return False
        self.problem = None
        self._renewed = began  # from before the request: others count from when it arrived
        return True

    def _may_take(self, lease: dict[str, Any] | None) -> bool:
        spec = (lease or {}).get("spec") or {}
        holder = spec.get("holderIdentity") or ""
        if holder in ("", self._identity):
            return True
        seen, now = (holder, str(spec.get("renewTime"))), time.monotonic()
        if seen != self._seen:
            self._seen, self._seen_at = seen, now
        return now >= self._seen_at + float(spec.get("leaseDurationSeconds") or DURATION)

    async def _write(self, holder: str, seconds: int, lease: dict[str, Any] | None = None) -> None:
        spec = (lease or {}).get("spec") or {}
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        same = spec.get("holderIdentity") == holder
        written = await self._cluster.write_lease(
            self._namespace,
            {
                "holderIdentity": holder,
                "leaseDurationSeconds": seconds,
                "acquireTime": spec.get("acquireTime", now) if same else now,
                "renewTime": now,
                "leaseTransitions": int(spec.get("leaseTransitions") or 0) + (not same),
            },
            str(lease["metadata"]["resourceVersion"]) if lease else self._version,
        )
        self._version = str(written["metadata"]["resourceVersion"])
