"""Ids of events, which say who holds what, and up to where it was heard."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcpace_sidecar.sessions import event_ids
from mcpace_sidecar.sessions.event_ids import Place
from mcpace_sidecar.sessions.sealing import Owner, Sealer

PROCESS = event_ids.process_of(b"inner")


@pytest.mark.parametrize("kind", [event_ids.MESSAGE, event_ids.END, event_ids.LISTENING])
@pytest.mark.parametrize("request_id", [b"", b"7", b'"a b"', b'"\xc3\xa9"'])
@pytest.mark.parametrize("theirs", [b"", b"one", b"a b/c_1"])
def test_what_is_written_is_read(kind: bytes, request_id: bytes, theirs: bytes) -> None:
    written = b"%b%b%d%b" % (
        kind, event_ids.stem(b"name", 3, PROCESS, request_id), 12, event_ids.tail(theirs),
    )  # fmt: skip
    assert event_ids.read(written) == Place(kind, b"name", 3, PROCESS, request_id, 12, theirs)
    assert all(0x20 < each < 0x7F for each in written)


@given(st.binary(max_size=200))
def test_whatever_else_is_written_is_none_of_ours(text: bytes) -> None:
    assert event_ids.read(text) is None or text.startswith((b"m.", b"e.", b"g."))


@pytest.mark.parametrize(
    "forged",
    [
        b"m.name.3.00000000.W10.1",  # the id []
        b"m.name.3.00000000.bnVsbA.1",  # null
        b"m.name.3.00000000.NywieCI6MQ.1",  # 7,"x":1
        b"m.name.3.00000000..1.YQ0KYjogYw",  # a line end in the server's id
        b"m.name.3.00000000..1.gICA",
        b"m.name.3.00000000.A.1",  # no base64
        b"m.name.3." + PROCESS + b"..1" + b"1" * 20,
        b"x.name.3.00000000..1",
        b"m." + b"n" * 2000 + b".3.00000000..1",
    ],
)
def test_what_could_be_taken_for_something_else_is_none_of_ours(forged: bytes) -> None:
    assert event_ids.read(forged) is None


def test_an_id_of_the_servers_that_no_header_can_bear_is_not_told() -> None:
    for theirs in (b"a\x00b", "é".encode(), b" a", b"a" * 600):
        assert event_ids.tail(theirs) == b""


def test_a_replica_is_named_to_replicas_alone() -> None:
    secrets = (b"s" * 32, b"t" * 32)
    for owner in (Owner("10.0.0.7", 18081, 4242), Owner("fd00::1", 18081, 1)):
        name = Sealer("ns/name", secrets).name_of(owner)
        assert Sealer("ns/name", secrets[::-1]).named(name) == owner
        assert Sealer("ns/other", secrets).named(name) is None
        assert Sealer("ns/name", (b"u" * 32,)).named(name) is None
        assert event_ids.read(b"m.%b.1.%b..1" % (name, PROCESS)) is not None
        assert b"10.0" not in name
    assert Sealer("ns/name", secrets).named(b"x") is None
