"""A short run of `make fuzz`, the same each time, and everything that it ever found."""

import random

import pytest
from tests.fuzz.seeds import SEEDS, kept, varied
from tests.fuzz.surfaces import SURFACES, bounded
from tests.kit.repeating import repetitions

TIMES = 8000


@pytest.mark.parametrize("name", SURFACES)
def test_what_was_found_once_is_found_no_more(name: str) -> None:
    for data in kept(name):
        bounded(SURFACES[name], data)


@pytest.mark.repeated
@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", SURFACES)
def test_whatever_strangers_send_it_does_what_it_says(name: str) -> None:
    chance = random.Random(name)
    for number in range(repetitions(TIMES)):
        data = varied(name, chance)
        try:
            bounded(SURFACES[name], data)
        except BaseException as error:
            error.add_note(f"{name}, input {number}: {data!r}")
            raise


def test_every_surface_has_somewhere_to_begin() -> None:
    assert SEEDS.keys() == SURFACES.keys()
