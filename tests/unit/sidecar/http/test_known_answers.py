"""Heads of answers that are found again: whatever was learned before, one means what it means when parsed whole."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcpace_sidecar.errors import ProtocolError
from mcpace_sidecar.http.head import ResponseHead
from mcpace_sidecar.http.known import ResponseHeads
from mcpace_sidecar.http.lines import VARIES_AFTER

OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"


def test_a_servers_head_is_parsed_once_though_its_date_and_length_differ() -> None:
    heads = ResponseHeads()
    for number in range(60):
        date, cookie = b"Date: %d\r\n" % number, b"Set-Cookie: a=%d\r\n" % number
        head = heads.read(OK + date + b"Content-Length: %d\r\n" % (number * 7) + cookie + b"\r\n")
        assert (head.status, head.length, head.content_type) == (200, number * 7, b"application/json")
        assert sorted(head.onward.splitlines(keepends=True)) == sorted(
            [*OK.splitlines(keepends=True), date, cookie]
        )
    assert len(heads) <= 2 * (VARIES_AFTER + 2)


ANSWER_LINES = st.sampled_from(
    [
        b"Content-Length: 5",
        b"content-length:7",
        b"Content-Length: 5, 5",
        b"Content-Length : 5",
        b"Transfer-Encoding: chunked",
        b"Transfer-Encoding: gzip",
        b"Connection: close",
        b"Connection: X-A, date",
        b"Connection: Keep-Alive",
        b"Keep-Alive: timeout=5",
        b"Keep-Alive: timeout=9",
        b"Content-Encoding: gzip",
        b"Content-Type: text/plain",
        b"Mcp-Session-Id: a",
        b"Upgrade: websocket",
        b"traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        b"traceparent: x",
        b" folded",
        b"no colon",
        b"X-Request-Id",
        b"X-A",
        b"Date",
        b"X-A: a\n",
        b"X-A: a\x01",
        b"X" * 70 + b": a",
    ]
) | st.builds(
    lambda name, number: b"%b: %d" % (name, number),
    st.sampled_from([b"Date", b"date", b"X-A", b"Set-Cookie", b"Mcp-Session-Id", b"ETag"]),
    st.integers(0, 12),
)
STATUS = st.sampled_from(
    [b"200 OK", b"200 Fine", b"204 No Content", b"304 Not Modified", b"103 Early", b"404 No", b"200"]
)


def answered(head: ResponseHead) -> object:
    """What a response head says, whatever it is held in."""
    line, *lines = head.onward.splitlines(keepends=True)
    by_name: dict[bytes, list[bytes]] = {}
    for each in lines:
        by_name.setdefault(each.partition(b":")[0].lower(), []).append(each)
    framing = head.status, head.length, head.chunked, head.keep_alive, head.keep_for
    return line, by_name, framing, head.content_type, head.plain, head.get(b"mcp-session-id")


@given(
    learned=st.lists(st.tuples(STATUS, st.lists(ANSWER_LINES, max_size=4)), max_size=30),
    last=st.tuples(STATUS, st.lists(ANSWER_LINES, max_size=6)),
    version=st.sampled_from([b"1.1", b"1.0"]),
)
def test_a_servers_head_means_the_same_whatever_was_read_before(learned, last, version) -> None:
    heads = ResponseHeads()
    for status, lines in [*learned, last, last]:
        raw = b"HTTP/%b %b\r\n" % (version, status) + b"".join(line + b"\r\n" for line in lines) + b"\r\n"
        raw = raw[: raw.index(b"\r\n\r\n") + 4]
        try:
            whole = ResponseHead(raw)
        except ProtocolError:
            with pytest.raises(ProtocolError):
                heads.read(raw)
        else:
            assert answered(heads.read(raw)) == answered(whole), raw
