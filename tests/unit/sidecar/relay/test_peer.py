"""What sidecars say to each other."""

import pytest

from mcpace_sidecar.identity.client import Client
from mcpace_sidecar.relay.peer import client_of, is_elder, told


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


@pytest.mark.parametrize(
    "client",
    [
        Client("addr:10.0.0.1"),
        Client("key:a/b", "pro", anonymous=False),
        Client("Jo\u00e9 \r\n\x00", None, anonymous=False, subject="https://issuer sub"),
    ],
)
def test_a_client_is_who_it_is_at_the_other_replica(client: Client) -> None:
    said = told(client)
    assert said.isascii()
    assert not set(said) & set(b" \r\n:")
    heard = client_of(said)
    assert heard is not None
    for what in ("name", "tier", "anonymous", "subject"):
        assert getattr(heard, what) == getattr(client, what)


@pytest.mark.parametrize("said", [None, b"", b"x", b"bm9uZQ==", b"W10=", b"\xff"])
def test_who_says_no_client_names_none(said: bytes | None) -> None:
    assert client_of(said) is None
