"""What somebody most likely meant."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcpace_sidecar.contract.nearest import Vocabulary

WORDS = st.text("abcXYZ-_", max_size=12)


@pytest.mark.parametrize(
    ("word", "meant"),
    [
        ("getWeather", "get-weather"),
        ("GET_WEATHER", "get-weather"),
        ("get-wether", "get-weather"),
        ("report", "report-storm"),
        ("zzz", None),
        ("", None),
    ],
)
def test_a_name_is_found_through_its_spelling(word: str, meant: str | None) -> None:
    names = Vocabulary(["get-weather", "report-storm", "list-all-of-them"])
    assert names.nearest(word) == meant
    assert names.meant(word) == (f"; did you mean {meant}?" if meant else "")


@given(st.lists(WORDS, max_size=8), WORDS)
def test_only_names_that_are_known_are_ever_meant_and_a_known_one_means_its_own_spelling(
    known, word
) -> None:
    names = Vocabulary(known)
    found = names.nearest(word)
    assert found is None or found in known
    assert names.nearest(word, closely=False) in {None, *known}
    for name in known:
        found = names.nearest(name, closely=False)
        assert found is not None
        assert (
            "".join(filter(str.isalnum, found)).casefold() == "".join(filter(str.isalnum, name)).casefold()
        )


def test_of_two_that_differ_in_case_alone_the_first_is_meant() -> None:
    assert Vocabulary(["aB", "Ab"]).nearest("ab") == "aB"


def test_letters_of_long_names_and_of_many_are_not_compared() -> None:
    assert Vocabulary(["x" * 65]).nearest("x" * 64) is None
    many = Vocabulary([f"{n:03}" for n in range(64)] + ["weather"])
    assert many.nearest("wether") is None
    assert many.nearest("WEATHER") == "weather", "its spelling alone is found among any number"
