"""Durations and sizes, as people write them."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcpace_sidecar.contract.quantity import seconds, size

UNITS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400}
BINARY = {"": 1, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30}


@given(st.integers(0, 999_999_999), st.sampled_from(sorted(UNITS)))
def test_a_duration_is_its_number_of_its_unit(number: int, unit: str) -> None:
    assert math.isclose(seconds(f"{number}{unit}"), number * UNITS[unit])


@given(st.integers(0, 999_999_999_999), st.sampled_from(sorted(BINARY)))
def test_a_size_is_its_number_of_its_unit_in_text_or_not(number: int, unit: str) -> None:
    assert size(f"{number}{unit}") == number * BINARY[unit]
    assert size(number) == number


@pytest.mark.parametrize(
    "text",
    ["", "5", "5 s", "s", "-5s", "+5s", "1.5h", "5S", "5s\n", "\u0665s", "5m5s", "1234567890s", "1e3s"],
)
def test_what_is_no_duration_is_refused_in_words_that_say_what_to_write(text: str) -> None:
    with pytest.raises(ValueError, match="write a duration such as 500ms, 30s, 5m, 1h or 1d"):
        seconds(text)


@pytest.mark.parametrize(
    "text",
    ["", "64 Mi", "64MB", "64M", "Mi", "-1", "1.5Gi", "64mi", "64Mi\n", "\u0666Mi", -1, True, "1" * 13],
)
def test_what_is_no_size_is_refused_in_words_that_say_what_to_write(text: int | str) -> None:
    with pytest.raises(ValueError, match="write a size in bytes such as 65536, 64Ki, 4Mi or 1Gi"):
        size(text)
