"""Events are the same in whatever pieces they arrive."""

import itertools
import re

from hypothesis import given
from hypothesis import strategies as st

from mcpace_sidecar.http.framing import ChunkedBody
from mcpace_sidecar.http.sse import Events, data_of, event_of, name_of, with_data

BOM = b"\xef\xbb\xbf"

LINES = st.sampled_from(
    [b"data: a", b"data:b", b"data: {}", b"event: message", b"id: 7", b": ping", b"retry: 5"]
)
ODD = LINES | st.sampled_from(
    [
        b"",
        b"data",
        b"data:",
        b"data:  x",
        b"datum: 1",
        b" data: 2",
        BOM + b"data: 3",
        BOM,
        b"event: data: 4",
        b"x",
    ]
)
ENDS = st.sampled_from([b"\n", b"\r\n", b"\r"])
CUTS = st.lists(st.integers(0, 10_000), max_size=12)


def cut(stream: bytes, cuts: list[int]) -> list[bytes]:
    places = sorted({c % (len(stream) + 1) for c in cuts} | {0, len(stream)})
    return [stream[a:b] for a, b in itertools.pairwise(places)]


def as_written(stream: bytes) -> list[tuple[bytes, bytes]]:
    """Kind and data of each event, as WHATWG HTML, section 9.2.6, says it, line by line."""
    events, data, name = [], list[bytes](), b""
    for line in re.split(rb"\r\n|\n|\r", stream.removeprefix(BOM))[:-1]:
        field, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if not line:
            if b"\n".join(data):
                events.append((name, b"\n".join(data)))
            data, name = [], b""
        elif field == b"data":
            data.append(value)
        elif field == b"event":
            name = value
    return events


@given(
    bom=st.sampled_from([b"", BOM]),
    lines=st.lists(st.tuples(ODD, ENDS), max_size=16),
    cuts=CUTS,
)
def test_events_are_read_as_the_standard_says_in_whatever_pieces(bom, lines, cuts) -> None:
    stream = bom + b"".join(line + end for line, end in lines)
    for places in ([], cuts, list(range(len(stream)))):
        cutter = Events()
        pieces = [event for piece in cut(stream, places) for event in cutter.feed(piece)]
        assert b"".join(pieces) + cutter.rest() == stream
        assert [(name_of(e), data_of(e)) for e in pieces if data_of(e)] == as_written(stream)


@given(events=st.lists(st.lists(LINES, min_size=1, max_size=4), min_size=1, max_size=5), end=ENDS)
def test_each_event_is_one_piece(events, end) -> None:
    assert len(Events().feed(b"".join(end.join(lines) + end + end for lines in events))) == len(events)


@given(data=st.lists(st.sampled_from([b"{", b'"a":', b"1", b"}"]), min_size=1), end=ENDS)
def test_data_of_several_lines_is_an_event_of_as_many(data, end) -> None:
    for event in (event_of(end.join(data)), with_data(b"id: 7\ndata: old\n\n", end.join(data))):
        assert as_written(event)[0][1] == b"\n".join(data)
        assert data_of(event) == b"\n".join(data)


@given(
    lines=st.lists(LINES | st.just(b"data"), min_size=1, max_size=5),
    end=ENDS,
    data=st.sampled_from([b"{}", b"x", b'{"a":"b"}']),
)
def test_an_event_with_other_data_keeps_everything_else(lines, end, data) -> None:
    event = end.join(lines) + end + end
    changed = with_data(event, data)
    assert data_of(changed) == data
    kept = [line for line in lines if not line.startswith(b"data")]
    assert [line for line in changed.splitlines() if line and not line.startswith(b"data")] == kept


@given(
    body=st.binary(max_size=300),
    sizes=st.lists(st.integers(1, 50), max_size=10),
    cuts=CUTS,
)
def test_a_chunked_body_cut_into_any_pieces_is_the_same_body(body, sizes, cuts) -> None:
    wire, left = b"", body
    for size in sizes:
        chunk, left = left[:size], left[size:]
        if chunk:
            wire += b"%x\r\n%b\r\n" % (len(chunk), chunk)
    if left:
        wire += b"%x\r\n%b\r\n" % (len(left), left)
    wire += b"0\r\n\r\n"
    reader, read, ended = ChunkedBody(strict=True), b"", False
    for piece in cut(wire, cuts):
        got, rest, done = reader.feed(piece)
        read += got
        assert not rest
        ended = ended or done
    assert ended
    assert read == body
