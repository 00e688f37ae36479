"""Messages as lines: whatever the cuts, the same lines; and no line within one."""

import json

from hypothesis import given
from hypothesis import strategies as st

from mcpace_sidecar.http.ledger import Ledger
from mcpace_sidecar.stdio.lines import LIGHT, MAX_LINE, Cutter, line_of

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(JSON, st.sampled_from([None, 1]), st.sampled_from([b"\n", b"\r\n", b"\r"]))
def test_a_message_is_one_line_of_the_same_meaning(value, indent, end):
    body = json.dumps(value, indent=indent, ensure_ascii=False).encode().replace(b"\n", end)
    line = line_of(body)
    assert json.loads(line) == value
    assert not {"\n", "\r", "\u2028", "\u2029"} & set(line.decode())


@given(
    st.lists(st.binary().map(lambda line: line.replace(b"\n", b"")), max_size=8),
    st.lists(st.integers(0, 200), max_size=8),
)
def test_lines_are_the_same_in_whatever_cuts_they_come(lines, cuts):
    written = b"".join(line + b"\n" for line in lines) + b"rest"
    ledger = Ledger(1 << 20)
    cutter = Cutter(ledger)
    found, at = [], 0
    for cut in [*sorted(min(cut, len(written)) for cut in cuts), len(written)]:
        if cut > at:
            found += cutter.feed(written[at:cut])
            at = cut
    assert found == lines
    assert cutter.feed(b" of it\n") == [b"rest of it"]
    assert ledger.held == 0


def long_one(begin: bytes, end: bytes) -> list[bytes]:
    cutter = Cutter(Ledger(LIGHT))
    for piece in (begin, b"x" * LIGHT, b"x" * LIGHT, end + b'\n{"id":2}\n'):
        lines = cutter.feed(piece)
    assert lines == [b'{"id":2}']
    return cutter.dropped


def test_of_a_line_without_room_the_id_is_known_wherever_it_stands():
    assert long_one(b'{"jsonrpc":"2.0","id":1,"result":"', b'"}') == [b"1"]
    assert long_one(b'{"result":"', b'","jsonrpc":"2.0","id":"a"}') == [b'"a"']
    assert long_one(b"Traceback", b"") == [b""]


def test_no_line_is_longer_than_any_may_be():
    cutter = Cutter(Ledger(4 * MAX_LINE))
    for _ in range(65):
        assert cutter.feed(b"x" * (1 << 20)) == []
    assert cutter.feed(b"\n") == []
    assert cutter.dropped == [b""]
