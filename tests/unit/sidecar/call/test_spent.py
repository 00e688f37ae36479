"""The ids of requests that have ended."""

from __future__ import annotations

import pytest

from mcpace_sidecar.call.spent import REMEMBERED, Spent


@pytest.mark.parametrize(
    ("ended", "late", "same"),
    [
        (b"1", b"1.0", True),
        (b'"a"', rb'"\u0061"', True),
        (b"1", b'"1"', False),
        (b"1", b"2", False),
        (b'"a"', b'"b"', False),
    ],
)
def test_an_id_is_known_however_it_is_written(ended: bytes, late: bytes, same: bool) -> None:
    spent = Spent()
    spent.add(ended)
    assert (late in spent) == same


def test_the_latest_are_remembered_and_never_more_than_twice_as_many() -> None:
    spent = Spent()
    for number in range(5 * REMEMBERED + 10):
        spent.add(b"%d" % number)
        assert len(spent) <= 2 * REMEMBERED
    assert all(b"%d" % number in spent for number in range(4 * REMEMBERED + 10, 5 * REMEMBERED + 10))
    assert b"0" not in spent
