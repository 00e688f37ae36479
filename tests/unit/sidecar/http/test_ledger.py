"""Bytes that many hold together."""

from hypothesis import given
from hypothesis import strategies as st

from mcpace_sidecar.http.ledger import Holding, Ledger


@given(
    most=st.integers(0, 100),
    steps=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 120)), max_size=40),
)
def test_what_is_held_is_what_the_holders_have_and_never_too_much(most, steps) -> None:
    ledger = Ledger(most)
    holders = [Holding(ledger) for _ in range(4)]
    for which, wanted in steps:
        holder = holders[which]
        before, held = holder.size, ledger.held
        fits = held - before + wanted <= most or wanted <= before
        assert holder.resize(wanted) == fits
        assert holder.size == (wanted if fits else before), "refused, it has what it had"
        assert ledger.held == sum(each.size for each in holders) <= most
    for holder in holders:
        holder.resize(0)
    assert ledger.held == 0


def test_a_smaller_bound_takes_nothing_away_and_gives_nothing_more() -> None:
    ledger = Ledger(10)
    holder = Holding(ledger)
    assert holder.resize(8)
    ledger.most = 5
    assert not holder.resize(9)
    assert holder.resize(7)
    assert not ledger.take(1)
    assert holder.resize(2)
    assert ledger.take(3)
