"""Ids of questions, which say which of the server's processes asks."""

import msgspec
import pytest

from mcpace_sidecar.sessions import epochs

FIRST, SECOND = epochs.mark_of(1, b"one"), epochs.mark_of(2, b"two")


def answered(data: bytes) -> bytes:
    return msgspec.json.encode({"jsonrpc": "2.0", "id": msgspec.json.decode(data)["id"], "result": {}})


def to_server(mark: str, body: bytes) -> object:
    told = epochs.to_server(mark, body, b"x" if b'"id"' in body else None)
    return None if told is None else msgspec.json.decode(told)


@pytest.mark.parametrize("written", [b"0", b"-7", b'"abc"', b'"a\\"b\\u00e9"', b'"mcpace-1-00000000-0"'])
def test_an_answer_comes_back_to_the_process_that_asked_and_to_no_other(written: bytes) -> None:
    asked = b'{"jsonrpc":"2.0","id":%b,"method":"roots/list"}' % written
    marked = epochs.to_client(FIRST, asked)
    assert msgspec.json.decode(marked)["id"].startswith(FIRST)
    answer = answered(marked)
    assert to_server(FIRST, answer) == {
        "jsonrpc": "2.0",
        "id": msgspec.json.decode(written),
        "result": {},
    }
    for other in (SECOND, "", epochs.mark_of(1, b"another")):
        assert to_server(other, answer) is None
    assert to_server(FIRST, answered(asked)) is None, "the first process asked that, which has ended"


def test_what_a_process_asks_that_a_session_was_begun_in_passes_as_it_is() -> None:
    assert epochs.mark_of(0, b"one") == ""
    body = b'{"jsonrpc":"2.0", "id":0, "result":{"text":"mcpace-"}}'
    assert to_server("", body) == msgspec.json.decode(body)
    assert epochs.to_server("", answered(b'{"id":3}'), b"3") == answered(b'{"id":3}')


def test_progress_and_cancellation_of_a_question_name_it_as_it_was_named() -> None:
    asked = b'{"jsonrpc":"2.0","id":5,"method":"sampling/createMessage","params":{"a":1,"_meta":{"b":2,"progressToken":5}}}'
    seen = msgspec.json.decode(epochs.to_client(FIRST, asked))
    token = seen["params"]["_meta"]["progressToken"]
    assert (seen["params"]["a"], seen["params"]["_meta"]["b"], token) == (1, 2, seen["id"])
    tells = {"jsonrpc": "2.0", "method": epochs.PROGRESS, "params": {"progressToken": token, "progress": 1}}
    body = msgspec.json.encode(tells)
    assert to_server(FIRST, body) == tells | {"params": {"progressToken": 5, "progress": 1}}
    assert to_server(SECOND, body) is None
    withdrawn = (
        b'{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":5,"reason":"r"}}'
    )
    told = msgspec.json.decode(epochs.to_client(FIRST, withdrawn))
    assert told["params"] == {"requestId": seen["id"], "reason": "r"}


@pytest.mark.parametrize(
    "data",
    [
        b'{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":1}}',
        b'{"jsonrpc":"2.0","id":1,"result":{}}',
        b"no json",
        b'{"id":"\xff","method":"roots/list"}',
        b'{"method":"notifications/cancelled","params":[1]}',
    ],
)
def test_what_asks_nothing_passes_as_it_is(data: bytes) -> None:
    assert epochs.to_client(FIRST, data) is data


@pytest.mark.parametrize("forged", ['0,"method":"tools/call"', "[1]", "", "null", '"a', '"\n"'])
def test_a_forged_id_writes_nothing_else_into_the_message(forged: str) -> None:
    body = msgspec.json.encode({"jsonrpc": "2.0", "id": FIRST + forged, "result": {}})
    told = epochs.to_server(FIRST, body, b"x")
    assert told is None or told == body
