"""Who takes over a session whose owner is gone."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from mcpace_sidecar.sessions.heir import ranked

KEYS = st.binary(min_size=12, max_size=12)
PLACES = st.lists(
    st.from_regex(r"10\.0\.[0-9]{1,2}\.[0-9]{1,2}:18081", fullmatch=True), unique=True, max_size=8
)


@given(KEYS, PLACES, st.randoms())
def test_every_sidecar_ranks_its_peers_alike_whatever_order_it_knows_them_in(key, places, random) -> None:
    shuffled = random.sample(places, len(places))
    assert ranked(key, shuffled) == ranked(key, [*places, *places])


@given(KEYS, PLACES.filter(len))
def test_who_goes_changes_nothing_for_the_sessions_of_others(key, places) -> None:
    ranks = ranked(key, places)
    for gone in places:
        assert ranked(key, (each for each in places if each != gone)) == [p for p in ranks if p != gone]


def test_sessions_are_spread_over_all_peers() -> None:
    places = [f"10.0.0.{number}:18081" for number in range(4)]
    heirs = Counter(ranked(b"%012d" % number, places)[0] for number in range(4000))
    assert min(heirs.values()) > 850
