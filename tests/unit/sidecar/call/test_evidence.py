"""What an answer shows of its request: whether the server read it, and whether the answer is surely its own."""

import pytest

from mcpace_sidecar.call.evidence import BORNE, NOTHING, PLAIN, READ, shows
from mcpace_sidecar.http.head import ResponseHead
from mcpace_sidecar.mcp.request import Message, classify

CALL = classify(b'{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"t"}}')
NOTE = classify(b'{"jsonrpc":"2.0","method":"notifications/initialized"}')
PYTHON = b'{"jsonrpc":"2.0","id":7,"result":{"content":[{"type":"text","text":"a"}],"isError":false}}'
TYPESCRIPT = b'{"result":{"content":[]},"jsonrpc":"2.0","id":7}'
ANOTHERS = PYTHON.replace(b"7", b"8", 1)
FAILED = b'{"jsonrpc":"2.0","id":7,"error":{"code":-32602,"message":"no"}}'


def head(status: int, kind: str = "application/json", coding: str = "") -> ResponseHead:
    lines = f"HTTP/1.1 {status} x\r\nContent-Type: {kind}\r\n"
    return ResponseHead(
        f"{lines}{f'Content-Encoding: {coding}' + chr(13) + chr(10) if coding else ''}\r\n".encode()
    )


@pytest.mark.parametrize(
    ("message", "status", "body", "expected"),
    [
        (CALL, 200, PYTHON, PLAIN),
        (CALL, 200, TYPESCRIPT, BORNE),
        (CALL, 200, FAILED, BORNE),
        (CALL, 400, FAILED, BORNE),
        (CALL, 200, ANOTHERS, NOTHING),
        (CALL, 200, b"", NOTHING),
        (CALL, 200, b"{}", NOTHING),
        (CALL, 202, b"", READ),
        (CALL, 400, b"no", NOTHING),
        (CALL, 503, ANOTHERS, NOTHING),
        (NOTE, 202, b"", READ),
        (NOTE, 200, b"", READ),
        (NOTE, 404, b"", NOTHING),
        (None, 200, b"any", READ),
        (None, 500, b"any", NOTHING),
    ],
)
def test_an_answer_shows_no_more_than_its_status_and_id_do(
    message: Message | None, status: int, body: bytes, expected: int
) -> None:
    assert shows(message, head(status), body, None, elsewhere=False) == expected


def test_events_are_read_as_json_is() -> None:
    for body, expected in ((PYTHON, PLAIN), (TYPESCRIPT, BORNE), (ANOTHERS, NOTHING)):
        event = b"event: message\r\ndata: %b\r\n\r\n" % body
        assert shows(CALL, head(200, "text/event-stream"), event, None, elsewhere=False) == expected


def test_a_response_that_comes_elsewhere_is_not_missed() -> None:
    assert shows(CALL, head(200), b"", None, elsewhere=True) == READ


def test_what_is_encoded_is_not_read() -> None:
    assert shows(CALL, head(200, coding="gzip"), ANOTHERS, None, elsewhere=False) == READ
