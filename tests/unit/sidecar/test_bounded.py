"""What is remembered is bounded, and looked at in turn."""

from hypothesis import given
from hypothesis import strategies as st

from mcpace_sidecar.bounded import Round, make_room


@given(limit=st.integers(1, 40), keys=st.lists(st.integers(0, 99), max_size=120))
def test_there_is_room_for_one_more_and_whoever_came_last_is_still_known(limit, keys) -> None:
    remembered: dict[int, None] = {}
    for key in keys:
        if key not in remembered:
            make_room(remembered, limit)
        remembered[key] = None
        assert len(remembered) <= limit
        assert list(remembered)[-1] == key or key in remembered


@given(
    count=st.integers(1, 5),
    steps=st.lists(st.tuples(st.sampled_from(["some", "add", "drop"]), st.integers(0, 9)), max_size=60),
)
def test_a_round_passes_each_key_that_was_there_and_stayed_and_none_that_has_gone(count, steps) -> None:
    table: dict[int, None] = dict.fromkeys(range(5))
    walk = Round(table)
    began, seen, dropped = list(table), [], set()
    for verb, key in steps:
        if verb == "add":
            table.setdefault(key)
        elif verb == "drop":
            table.pop(key, None)
            dropped.add(key)
        else:
            some = walk.some(count)
            assert len(some) <= count
            assert all(each in table for each in some)
            seen += some
            if not some:
                break
    rounds = len(began) // count + 1
    for _ in range(rounds):
        seen += walk.some(count)
    assert {key for key in began if key not in dropped} <= set(seen)
