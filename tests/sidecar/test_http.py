"""Heads and framing: strict about what two parties could read differently, whole in any cut."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcpace_sidecar.errors import ProtocolError
from mcpace_sidecar.http.framing import ChunkedBody, LengthBody
from mcpace_sidecar.http.head import Heads, RequestHead, RequestHeads, ResponseHead


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


def test_a_head_is_parsed_once_and_only_so_many_are_remembered() -> None:
    parsed = []
    heads = Heads(lambda raw: parsed.append(raw) or RequestHead(raw), limit=2)
    for name in (b"a", b"a", b"b", b"c", b"a"):
        heads.read(request(b"X: " + name))
    assert len(parsed) == 4
    assert len(heads) == 2


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


TRACE = b"traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\r\n"
PLAIN = b"POST /mcp HTTP/1.1\r\nHost: a\r\nX-A: 1\r\n"


def test_heads_that_differ_in_length_and_trace_alone_are_parsed_once() -> None:
    heads = RequestHeads()
    seen = []
    for number in range(50):
        trace = TRACE.replace(b"4736", b"%04x" % number)
        head, line = heads.read(PLAIN + b"Content-Length: %d\r\n" % (number % 5) + trace + b"\r\n")
        assert (head.length, line) == (number % 5, trace)
        seen.append(head.base)
    assert len({id(base) for base in seen}) == 1
    assert len(heads) == 6
    assert seen[0].get(b"x-a") == b"1"


@pytest.mark.parametrize(
    "lines",
    [
        b"Content-Length: 1\r\nContent-Length: 2\r\n",
        b"Content-Length: 1\r\ncontent-length: 1\r\n",
        b"Content-Length: 1\r\n folded\r\n",
        b"Content-Length: 1\r\n\tfolded\r\n",
        b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n",
        b"Transfer-Encoding: chunked\r\nContent-Length: 1\r\n",
        b"Content-Length : 1\r\n",
        b"Content-Length: 1 \r\nContent-Length: 1\r\n",
        b"Content-Length: 1\r\nContent-Length:2\r\n",
    ],
)
def test_what_is_taken_out_to_remember_a_head_hides_no_ambiguity(lines) -> None:
    heads = RequestHeads()
    heads.read(PLAIN + b"\r\n")
    for _ in range(2):
        with pytest.raises(ProtocolError):
            heads.read(PLAIN + lines + b"\r\n")


@pytest.mark.parametrize("trace", [b"traceparent: x\r\n", TRACE + TRACE, TRACE.replace(b": ", b":")])
def test_an_odd_trace_is_passed_on_as_it_is(trace) -> None:
    head, line = RequestHeads().read(PLAIN + trace + b"Content-Length: 3\r\n\r\n")
    passed = b"".join(line for _, line in head.onward) + line
    assert passed.count(b"traceparent") == trace.count(b"traceparent")
    assert head.length == 3


LINES = st.sampled_from(
    [
        b"Content-Length: 5",
        b"content-length: 5",
        b"Content-Length: 7",
        b"Content-Length:5",
        b"Content-Length: 5 ",
        b"Content-Length: 05",
        b"Content-Length: 5, 5",
        b"Content-Length : 5",
        b"CONTENT-LENGTH: 5",
        b"Transfer-Encoding: chunked",
        TRACE.rstrip(),
        TRACE.rstrip().replace(b"trace", b"Trace"),
        TRACE.rstrip().replace(b"4736", b"4737"),
        TRACE.rstrip() + b" ",
        TRACE.rstrip().replace(b"-01", b"-0\x01"),
        TRACE.rstrip().replace(b"4736", b"47\r6"),
        b"traceparent: 00-x",
        b" folded",
        b"\tfolded",
        b"X-A: Content-Length: 5",
        b"X-A: a\n",
        b"X-A: a\r",
        b"Connection: close",
        b"Connection: X-A",
        b"Expect: 100-continue",
        b"Host: b",
    ]
)


@given(lines=st.lists(LINES, max_size=6))
def test_a_head_means_the_same_however_it_was_remembered(lines) -> None:
    """What is taken out of a head so that it repeats changes nothing of what the head says."""

    def said(head: RequestHead, trace: bytes) -> object:
        onward = sorted([line for _, line in head.onward] + ([trace] if trace else []))
        return head.method, head.target, head.length, head.chunked, head.keep_alive, head.expects, onward

    raw = PLAIN + b"".join(line + b"\r\n" for line in lines) + b"\r\n"
    raw = raw[: raw.index(b"\r\n\r\n") + 4]
    heads = RequestHeads()
    for _ in range(2):
        try:
            plain = said(RequestHead(raw), b"")
        except ProtocolError:
            with pytest.raises(ProtocolError):
                heads.read(raw)
        else:
            assert said(*heads.read(raw)) == plain
