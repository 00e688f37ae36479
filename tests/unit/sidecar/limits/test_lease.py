"""Leases: how much of a bucket one replica may take ahead."""

from __future__ import annotations

from typing import Any

from mcpace_sidecar.limits.bucket import Charge, Charges
from mcpace_sidecar.limits.lease import Lease, largest


def test_small_buckets_are_not_leased_from_and_large_ones_a_little() -> None:
    def most(capacity: int, amount: int = 1, kind: Any = "minute", replicas: int = 1) -> int:
        return largest(Charges([Charge("k", kind, capacity, amount)]), replicas)

    assert [most(n) for n in (10, 60, 300, 6000, 60_000, 1_000_000)] == [1, 1, 1, 5, 50, 833]
    assert most(60_000, amount=10) == 5
    assert most(1_000_000, replicas=1000) == 250
    assert most(100, kind="day") == 25
    assert most(100, kind="day", replicas=50) == 1


def test_a_lease_grows_while_it_is_used_up_and_begins_anew_when_it_is_not() -> None:
    lease = Lease(Charges([Charge("k", "minute", 1_000_000)]))
    sizes = []
    for _ in range(12):
        lease.grow(1)
        sizes.append(lease.size)
    assert sizes[:4] == [2, 4, 8, 16]
    assert sizes[-1] == 833
    lease.granted(10, [0.0], 5.0)
    assert lease.use(4.0)
    assert not lease.use(5.0)
    assert lease.shrink() == 9
    assert lease.size == 1
