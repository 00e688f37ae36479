"""Events are the same in whatever pieces they arrive."""

import itertools

from hypothesis import given
from hypothesis import strategies as st

from mcpace_sidecar.http.framing import ChunkedBody
from mcpace_sidecar.stream import Events, data_of, with_data

LINES = st.sampled_from(
    [b"data: a", b"data:b", b"data: {}", b"event: message", b"id: 7", b": ping", b"retry: 5"]
)
EVENTS = st.lists(st.lists(LINES, min_size=1, max_size=4), min_size=1, max_size=5)
END = st.sampled_from([b"\n", b"\r\n"])


def cut(stream: bytes, cuts: list[int]) -> list[bytes]:
    places = sorted({c % (len(stream) + 1) for c in cuts} | {0, len(stream)})
    return [stream[a:b] for a, b in itertools.pairwise(places)]


@given(events=EVENTS, end=END, cuts=st.lists(st.integers(0, 10_000), max_size=12))
def test_a_stream_cut_into_any_pieces_holds_the_same_events(events, end, cuts) -> None:
    stream = b"".join(end.join(lines) + end + end for lines in events)
    whole = Events().feed(stream)
    cutter = Events()
    pieces = [event for piece in cut(stream, cuts) for event in cutter.feed(piece)]
    assert pieces == whole
    assert b"".join(pieces) + cutter.rest() == stream
    assert len(whole) == len(events)


@given(
    lines=st.lists(LINES, min_size=1, max_size=5),
    end=END,
    data=st.sampled_from([b"{}", b"x", b'{"a":"b"}']),
)
def test_an_event_with_other_data_keeps_everything_else(lines, end, data) -> None:
    event = end.join(lines) + end + end
    changed = with_data(event, data)
    assert data_of(changed) == data
    kept = [line for line in lines if not line.startswith(b"data:")]
    assert [line for line in changed.splitlines() if line and not line.startswith(b"data:")] == kept


@given(
    body=st.binary(max_size=300),
    sizes=st.lists(st.integers(1, 50), max_size=10),
    cuts=st.lists(st.integers(0, 10_000), max_size=12),
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
