"""Sealed ids: what they carry, who can open them, how long they are."""

import base64
import itertools

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcpace_sidecar.errors import ConfigError
from mcpace_sidecar.sessions import key
from mcpace_sidecar.sessions.sealing import LONGEST, UNBOUND, Owner, Sealed, Sealer

OLD, NEW = b"a" * 32, b"b" * 32
OWNER = Owner("10.1.2.3", 18081, 7)
PYTHON = msgspec.json.encode(
    {
        "protocolVersion": "2025-11-25",
        "capabilities": {"sampling": {}, "elicitation": {}, "roots": {"listChanged": True}},
        "clientInfo": {"name": "mcp", "version": "0.1.0"},
    }
)


def sealed(**other: object) -> Sealed:
    usual = Sealed(1_800_000_000, OWNER, b"12345678", b"2025-11-25", b"0123456789abcdef" * 2, PYTHON)
    return usual._replace(**other)


@pytest.mark.parametrize(
    "inner",
    [
        b"0123456789abcdef" * 2,
        b"01234567-89ab-cdef-0123-456789abcdef",
        b"0123456789ABCDEF" * 2,
        b"x",
        b"!~" * 300,
    ],
)
@pytest.mark.parametrize("owner", [OWNER, Owner("2001:db8::1", 1, 2**32 - 1), Owner("127.0.0.1", 0, 0)])
def test_what_is_sealed_is_opened(inner: bytes, owner: Owner) -> None:
    sealer = Sealer("ns/one", [OLD])
    opened = sealer.open(sealer.seal(sealed(inner=inner, owner=owner)))
    assert opened is not None
    assert opened[1] == sealed(inner=inner, owner=owner)
    assert len(opened[0]) == 24
    assert Owner.read(str(owner)) == owner


def test_an_id_is_short_and_visible_ascii() -> None:
    sealer = Sealer("ns/one", [OLD])
    text = sealer.seal(sealed())
    assert len(text) < 230
    assert all(0x21 <= byte <= 0x7E for byte in text)
    assert text != sealer.seal(sealed()), "no two sessions have one id"


def test_an_initialize_that_makes_an_id_too_long_is_left_out() -> None:
    sealer = Sealer("ns/one", [OLD])
    noise = msgspec.json.encode({"noise": [f"{n * 7919:x}" for n in range(1000)]})
    text = sealer.seal(sealed(initialize=noise))
    assert len(text) < LONGEST
    opened = sealer.open(text)
    assert opened is not None
    assert opened[1] == sealed(initialize=b"")


def test_no_other_server_and_no_other_key_opens_it() -> None:
    text = Sealer("ns/one", [OLD]).seal(sealed())
    assert Sealer("ns/two", [OLD]).open(text) is None
    assert Sealer("ns/one", [NEW]).open(text) is None
    assert Sealer("ns/one").open(text) is None
    assert Sealer("ns/one", [NEW, OLD]).open(text) is not None


def test_under_a_new_key_ids_are_sealed_by_the_one_before_until_all_replicas_know_both() -> None:
    rotated = Sealer("ns/one", [NEW, OLD])
    assert Sealer("ns/one", [OLD]).open(rotated.seal(sealed())) is not None
    rotated._spread_at = 0.0
    assert Sealer("ns/one", [NEW]).open(rotated.seal(sealed())) is not None


def test_two_keys_of_one_number_open_the_ids_of_both() -> None:
    def number(secret: bytes) -> int:
        return base64.urlsafe_b64decode(Sealer("ns/one", [secret]).seal(sealed())[:4])[1]

    secrets = (n.to_bytes(32) for n in itertools.count())
    alike = next(secret for secret in secrets if number(secret) == number(OLD))
    rotated = Sealer("ns/one", [alike, OLD])
    for secret in (OLD, alike):
        assert rotated.open(Sealer("ns/one", [secret]).seal(sealed())) is not None
    assert rotated.open(Sealer("ns/two", [alike]).seal(sealed())) is None


@given(st.binary(max_size=400))
def test_whatever_a_stranger_sends_is_no_id(text: bytes) -> None:
    assert Sealer("ns/one", [OLD]).open(text) is None


@given(st.data())
def test_an_id_that_was_changed_is_none(data: st.DataObject) -> None:
    sealer = Sealer("ns/one", [OLD])
    text = bytearray(sealer.seal(sealed()))
    at = data.draw(st.integers(0, len(text) - 1))
    text[at] = data.draw(st.integers(0, 255).filter(lambda byte: byte != text[at]))
    assert sealer.open(bytes(text)) is None


def test_a_credential_is_told_from_others_under_every_key() -> None:
    one, other = Sealer("ns/one", [OLD]), Sealer("ns/one", [NEW])
    assert one.binding((b"a", b"bc")) == other.binding((b"a", b"bc")) != one.binding((b"ab", b"c"))
    assert one.binding(()) == UNBOUND


def test_a_key_is_64_hexadecimal_digits() -> None:
    assert key.read("ab" * 32 + "\n", "K") == b"\xab" * 32
    with pytest.raises(ConfigError, match="K is no key; write 32 random bytes in hex"):
        key.read("ab" * 31, "K")


def test_an_endpoint_says_to_replicas_alone_who_holds_its_stream() -> None:
    names = {Sealer("ns/name", (NEW, OLD)).endpoint(OWNER, b"12345678") for _ in range(2)}
    assert len(names) == 2, "each is one stream's"
    for name in names:
        assert Sealer("ns/name", (OLD,)).holder(name) == (OWNER, b"12345678")
        assert Sealer("ns/other", (OLD,)).holder(name) is None
        assert Sealer("ns/name", (b"c" * 32,)).holder(name) is None
        assert Sealer("ns/name", (OLD,)).named(name) is None, "it names no replica in ids of events"
        assert Sealer("ns/name", (OLD,)).open(name) is None, "and is no session's id"
    event = Sealer("ns/name", (OLD,)).name_of(OWNER)
    for name in (event, b"", b"x", b"!", b"A" * 5000):
        assert Sealer("ns/name", (OLD,)).holder(name) is None
