"""Heads and framing: strict about what two parties could read differently, whole in any cut."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcpace_sidecar.errors import ProtocolError
from mcpace_sidecar.http.framing import AnswerFraming, ChunkedBody, LengthBody
from mcpace_sidecar.http.head import Names, RequestHead, ResponseHead


def request(*lines: bytes, line: bytes = b"POST /mcp HTTP/1.1") -> bytes:
    return b"\r\n".join((line, b"Host: a", *lines, b"", b""))


@pytest.mark.parametrize(
    "raw",
    [
        request(b"Content-Length: 3", b"Transfer-Encoding: chunked"),
        request(b"Content-Length: 3", b"Content-Length: 3"),
        request(b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked"),
        request(b"Transfer-Encoding: gzip, chunked"),
        request(b"Transfer-Encoding: xchunked"),
        request(b"Content-Length: +3"),
        request(b"Content-Length: 3, 3"),
        request(b"Content-Length: -1"),
        request(b"Content-Length:"),
        request(b"Host: b"),
        b"POST /mcp HTTP/1.1\r\n\r\n",
        request(b"X: a", b" folded"),
        request(b"X : a"),
        request(b"X: a\nY: b"),
        request(b"X: a\rY: b"),
        request(b"X: a\x00b"),
        request(b"X: a\x01b"),
        request(b": nameless"),
        request(b"no colon"),
        request(line=b"POST http://a/mcp HTTP/1.1"),
        request(line=b"CONNECT a:1 HTTP/1.1"),
        request(line=b"OPTIONS * HTTP/1.1"),
        request(line=b"POST /mcp HTTP/2.0"),
        request(line=b"POST  /mcp HTTP/1.1"),
        request(line=b"POST /m\xc3\xa9 HTTP/1.1"),
        request(line=b"post /mcp HTTP/1.1"),
        request(b"Transfer-Encoding: chunked", line=b"POST /mcp HTTP/1.0"),
    ],
)
def test_an_ambiguous_or_malformed_head_is_refused(raw) -> None:
    with pytest.raises(ProtocolError) as refused:
        RequestHead(raw)
    assert refused.value.status == 400


def test_only_end_to_end_fields_go_on_and_each_as_it_was_sent() -> None:
    head = RequestHead(
        request(
            b"Connection: X-Hop, keep-alive",
            b"X-Hop: 1",
            b"Upgrade: websocket",
            b"X-Odd:  Spaced ",
            b"TE: a",
        )
    )
    assert head.onward == ((b"x-odd", b"X-Odd:  Spaced \r\n"),)


def test_a_response_keeps_its_reason_and_fields_and_loses_its_framing() -> None:
    head = ResponseHead(
        b"HTTP/1.1 404 Gone Fishing\r\nX-A: 1\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    )
    assert head.onward == b"HTTP/1.1 404 Gone Fishing\r\nX-A: 1\r\n"
    assert not head.keep_alive


NAMES = Names({b"x-consumer"}, (b"x-forwarded-for",), (b"x-forwarded-",))


@pytest.mark.parametrize(
    "line",
    [
        b"X_Consumer: a",
        b"X.Consumer: a",
        b"X_Forwarded_For: a",
        b"X-Forwarded_Port: a",
        b"Content_Length: 5",
        b"Transfer_Encoding: chunked",
        b"Connection: X-Consumer",
        b"Connection: close, x-forwarded-for",
        b"Connection: x-forwarded-proto",
        b"Connection: host",
    ],
)
def test_a_header_that_others_may_take_for_one_that_decides_is_refused(line) -> None:
    with pytest.raises(ProtocolError) as refused:
        RequestHead(request(line), NAMES)
    assert (refused.value.status, refused.value.reason) == (400, "header")


@pytest.mark.parametrize("host", [b"a/b", b"a, b", b"a b", b"u@a", b"a\xc3", b"a?b"])
def test_a_host_that_is_none_is_refused(host) -> None:
    with pytest.raises(ProtocolError):
        RequestHead(b"GET / HTTP/1.1\r\nHost: %b\r\n\r\n" % host)


def test_only_a_name_that_is_held_can_be_asked_for() -> None:
    head = RequestHead(request(b"X-Consumer: a", b"X-Other: b"), NAMES)
    assert head.get(b"x-consumer") == b"a"
    with pytest.raises(LookupError):
        head.get(b"x-other")


def test_a_head_never_shows_its_credentials() -> None:
    assert "hush" not in repr(RequestHead(request(b"Authorization: Bearer hush")))


@given(body=st.binary(max_size=300), data=st.data())
def test_a_chunked_body_is_whole_in_any_cut(body, data) -> None:
    sizes = data.draw(st.lists(st.integers(1, 50), min_size=1))
    wire, at = b"", 0
    while at < len(body):
        size = sizes[at % len(sizes)]
        piece = body[at : at + size]
        wire += b"%x\r\n%b\r\n" % (len(piece), piece)
        at += size
    wire += b"0\r\n\r\nNEXT"
    reader, got, rest, done = ChunkedBody(strict=True), b"", b"", False
    cuts = sorted(data.draw(st.lists(st.integers(0, len(wire)))))
    for start, end in zip([0, *cuts], [*cuts, len(wire)], strict=True):
        if done:
            rest += wire[start:end]
        else:
            piece, left, done = reader.feed(wire[start:end])
            got, rest = got + piece, rest + left
    assert (got, rest, done) == (body, b"NEXT", True)


@pytest.mark.parametrize(
    "wire",
    [
        b"5;ext=1\r\nhello\r\n0\r\n\r\n",
        b"5\r\nhello\r\n0\r\nTrailer: x\r\n\r\n",
        b"5\nhello\r\n0\r\n\r\n",
        b"5\r\nhelloXX0\r\n\r\n",
        b"-5\r\nhello\r\n",
        b"0x5\r\nhello\r\n",
        b" 5\r\nhello\r\n",
        b"\r\n",
        b"fffffffff\r\n",
    ],
)
def test_a_chunked_request_that_could_smuggle_is_refused(wire) -> None:
    with pytest.raises(ProtocolError):
        ChunkedBody(strict=True).feed(wire)


def test_a_body_of_known_length_leaves_the_next_message_alone() -> None:
    reader = LengthBody(5)
    assert reader.feed(b"he") == (b"he", b"", False)
    assert reader.feed(b"lloNEXT") == (b"llo", b"NEXT", True)


@pytest.mark.parametrize(
    ("length", "version", "line", "closes"),
    [
        (None, b"HTTP/1.1", b"Transfer-Encoding: chunked\r\n", False),
        (None, b"HTTP/1.0", b"", True),
        (5, b"HTTP/1.1", b"Content-Length: 5\r\n", False),
        (5, b"HTTP/1.0", b"Content-Length: 5\r\n", False),
        (0, b"HTTP/1.1", b"Content-Length: 0\r\n", False),
    ],
)
def test_an_answer_is_framed_as_its_reader_understands_it(length, version, line, closes) -> None:
    framing = AnswerFraming(length, version)
    assert (framing.line, framing.closes) == (line, closes)
    assert framing.piece(b"he") == (b"2\r\nhe\r\n" if framing.chunked else b"he")


def test_an_answer_of_a_known_length_knows_what_it_lacks() -> None:
    framing = AnswerFraming(5, b"HTTP/1.1")
    framing.piece(b"he")
    assert framing.left == 3
    framing.piece(b"llo")
    assert framing.left == 0
