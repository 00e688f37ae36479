"""What sidecars say to each other."""

import pytest

from mcpace_sidecar.relay.peer import is_elder


@pytest.mark.parametrize(
    ("reason", "age", "elder"),
    [
        (b"drained 100", 49.0, False),
        (b"drained 100", 51.0, True),
        (b"drained 0", 0.5, True),
        (b"drained", 51.0, False),
        (b"owner_lost", 51.0, False),
        (b"drained -1", 0.0, False),
        (b"", 0.0, False),
    ],
)
def test_who_ends_wants_an_heir_of_less_than_half_its_age(reason: bytes, age: float, elder: bool) -> None:
    assert is_elder(reason, age) is elder
