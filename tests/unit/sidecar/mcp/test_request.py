"""What a body is: classified by its bytes alone."""

import json
from collections.abc import Callable
from typing import get_args, get_type_hints

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcpace_sidecar.mcp import request, strictness
from mcpace_sidecar.mcp.answers import bears, is_plain_result, read_answer, read_events, succeeded
from mcpace_sidecar.mcp.jsonrpc import CountedCall
from mcpace_sidecar.mcp.methods import COUNTED
from mcpace_sidecar.mcp.request import Message, classify
from mcpace_sidecar.mcp.responses import result_body
from mcpace_sidecar.mcp.strictness import MessageError

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(
    tool=st.text(min_size=1).filter(lambda s: s.isprintable()),
    number=st.integers(-(10**15), 10**15) | st.text(max_size=40),
    arguments=st.dictionaries(st.text(), JSON),
    indent=st.booleans(),
)
def test_any_tools_call_is_read_as_the_server_will_read_it(tool, number, arguments, indent) -> None:
    body = msgspec.json.encode(
        {
            "jsonrpc": "2.0",
            "id": number,
            "method": "tools/call",
            "params": {"name": tool, "arguments": arguments},
        }
    )
    if indent:
        body = msgspec.json.format(body)
    message = classify(body)
    assert message.target == tool
    assert message.counted
    assert msgspec.json.decode(message.id) == number


@pytest.mark.parametrize(("method", "name"), COUNTED.items())
def test_the_target_of_every_counted_method_is_found_the_fast_way_and_the_slow_one(method, name) -> None:
    params = {name: "some", "arguments": {"a": 1}}
    body = msgspec.json.encode({"jsonrpc": "2.0", "id": 1, "method": method, "params": params})
    fast, slow = classify(body), classify(msgspec.json.format(body))
    assert fast.target == slow.target == "some"
    assert fast.spelling == b'{"a":1}\0', "it went the slow way"
    assert slow.spelling == slow.params


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", -32700),
        (b"{", -32700),
        (b"nonsense", -32700),
        (b'{"jsonrpc":"2.0","id":1,"method":"ping"} trailing', -32700),
        (b'{"jsonrpc":"2.0","id":1,"method":"ping","params":{"a":"\xff"}}', -32700),
        (
            b'{"jsonrpc":"2.0","id":1,"method":"ping","params":' + b"[" * 200_000 + b"]" * 200_000 + b"}",
            -32700,
        ),
        (b"[]", -32600),
        (b'[{"jsonrpc":"2.0","id":1,"method":"ping"}]', -32600),
        (b'"text"', -32600),
        (b"{}", -32600),
        (b'{"jsonrpc":"1.0","id":1,"method":"ping"}', -32600),
        (b'{"jsonrpc":"2.0","id":null,"method":"ping"}', -32600),
        (b'{"jsonrpc":"2.0","id":1.5,"method":"ping"}', -32600),
        (b'{"jsonrpc":"2.0","id":{},"method":"ping"}', -32600),
        (b'{"jsonrpc":"2.0","id":1,"method":"tools/call"}', -32602),
        (b'{"jsonrpc":"2.0","id":1,"method":"tools/call","x":{"name":1,"y":{"name":2}}}', -32602),
        (b'{"jsonrpc":"2.0","method":"tools/call","params":{"name":"t"}}', -32600),
        (b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":5}}', -32600),
    ],
)
def test_what_is_no_message_is_refused_with_a_code(body, code) -> None:
    with pytest.raises(MessageError) as refused:
        classify(body)
    assert refused.value.code == code


@pytest.mark.parametrize(
    "body",
    [
        b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"free","name":"dear"}}',
        b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"free","n\\u0061me":"dear"}}',
        b'{"jsonrpc":"2.0","id":1,"method":"ping","method":"tools/call","params":{"name":"dear"}}',
        b'{"jsonrpc":"2.0","id":1,"method":"ping","m\\u0065thod":"tools/call","params":{"name":"dear"}}',
        b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a"},"params":{"name":"b"}}',
        b'{"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "a", "name": "b"}}',
    ],
)
def test_a_call_that_two_readers_would_understand_differently_is_refused(body) -> None:
    with pytest.raises(MessageError, match="twice"):
        classify(body)


@pytest.mark.parametrize(
    "body",
    [
        b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"free","Name":"dear"}}',
        b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"NAME":"dear","name":"free"}}',
        b'{"jsonrpc":"2.0","id":1,"method":"ping","Method":"tools/call","params":{"name":"dear"}}',
        b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a"},"Params":{"name":"b"}}',
        '{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a"},"param\u017f":{}}'.encode(),
    ],
)
def test_a_name_that_readers_of_go_take_for_a_judged_one_is_refused(body) -> None:
    with pytest.raises(MessageError, match="some readers"):
        classify(body)


@pytest.mark.parametrize(
    "body",
    [
        b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a","arguments":{"x":1},"_meta":{"y":2}}}',
        b'{"id":17,"params":{"_meta":{},"name":"a"},"method":"tools/call","jsonrpc":"2.0"}',
        b'{"jsonrpc":"2.0","id":1,"method":"resources/read","params":{"uri":"a"}}',
        b'{"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "a"}}',
        b'{"jsonrpc":"2.0","id":"x","method":"tools/call","params":{"name":"a","task":{}}}',
        '{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a","arguments":{"x":"é"}}}'.encode(),
    ],
)
def test_a_message_keeps_its_params_as_they_were_written_however_it_was_read(body) -> None:
    message = classify(body)
    assert message.target == "a"
    assert msgspec.json.decode(message.params) == msgspec.json.decode(body)["params"]
    again = classify(body.replace(b'"a"', b'"b"'))
    assert again.target == "b"


@given(
    arguments=st.dictionaries(st.text(), JSON),
    second=st.sampled_from([b'"name":"b"', b'"n\\u0061me":"b"', b'"name" : "b"']),
    first=st.booleans(),
)
def test_no_second_name_hides_among_any_arguments(arguments, second, first) -> None:
    inner = b'"name":"a","arguments":' + msgspec.json.encode(arguments)
    params = second + b"," + inner if first else inner + b"," + second
    with pytest.raises(MessageError, match="twice"):
        classify(b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{' + params + b"}}")


PARAMS = st.lists(
    st.sampled_from(
        [
            b'"name":"a"', b'"name":"b"', b'"n\\u0061me":"b"', b'"name":"\\u0061"', '"name":"ä"'.encode(), b'"name":1',
            b'"uri":"a"', b'"arguments":{}', b'"arguments":{"name":"c"}', b'"arguments":[1]', b'"_meta":{"x":1}',
            b'"Name":"b"', b'"task":{}', b'"name":null',
        ]
    ),
    max_size=4,
)  # fmt: skip
ENTRIES = st.lists(
    st.sampled_from(
        [
            b'"jsonrpc":"2.0"', b'"jsonrpc":"1.0"', b'"id":1', b'"id":"x"', b'"id":null', b'"id":1.5', b'"id":{}',
            b'"method":"tools/call"', b'"method":"resources/read"', b'"method":"ping"', b'"Method":"tools/call"',
            b'"extra":1', b'"params":[]', b'"params":null', b'"result":{}',
        ]
    ),
    max_size=2,
)  # fmt: skip


@given(
    params=PARAMS,
    extra=ENTRIES,
    order=st.randoms(use_true_random=False),
    space=st.sampled_from([b",", b", ", b" ,"]),
    left_out=st.sets(st.integers(0, 3), max_size=1),
)
def test_a_message_means_the_same_whether_it_is_judged_by_its_length_or_not(
    params, extra, order, space, left_out
) -> None:
    entries = [
        b'"jsonrpc":"2.0"',
        b'"id":1',
        b'"method":"tools/call"',
        b'"params":{' + space.join(params) + b"}",
    ]
    entries = [entry for number, entry in enumerate(entries) if number not in left_out] + extra
    order.shuffle(entries)
    body = b"{" + space.join(entries) + b"}"

    def said(read: Callable[[bytes], Message]) -> object:
        try:
            message = read(body)
        except MessageError as error:
            return error.code, str(error), error.message_id
        return message.method, message.id, message.target, message.params

    assert said(classify) == said(request._classify_any)


def test_a_name_among_the_arguments_is_no_second_name() -> None:
    body = b'{"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "a", "arguments": {"name": "b"}}}'
    assert classify(body).target == "a"


def test_notifications_and_posted_responses_are_not_counted() -> None:
    assert not classify(b'{"jsonrpc":"2.0","method":"notifications/initialized"}').counted
    assert classify(b'{"jsonrpc":"2.0","id":4,"result":{}}').method is None
    assert not classify(b'{"jsonrpc":"2.0","id":1,"method":"tools/list"}').counted


def test_only_a_complete_result_that_is_no_error_may_be_kept() -> None:
    assert read_answer(b'{"jsonrpc":"2.0","id":1,"result":{"content":[]}}').result == b'{"content":[]}'
    for result in (b'{"isError":true}', b'{"resultType":"input_required"}', b'{"resultType":"task"}'):
        assert not read_answer(b'{"jsonrpc":"2.0","id":1,"result":' + result + b"}").complete
    assert not read_answer(b'{"jsonrpc":"2.0","id":1,"error":{"code":1,"message":"x"}}').ok
    assert not read_answer(b"not json").ok


def test_an_error_named_inside_a_text_is_no_error() -> None:
    assert succeeded(b'{"jsonrpc":"2.0","id":1,"result":{"content":[{"text":"\\"isError\\":true"}]}}')
    assert succeeded(b'{"jsonrpc":"2.0","id":1,"result":{"structuredContent":{"error":null}}}')
    assert not succeeded(b'{"jsonrpc":"2.0","id":1,"result":{"isError" : true}}')
    assert not succeeded(b'{"jsonrpc":"2.0","id":1,"result":{"isError":true,"x":{"y":1,"isError":false}}}')


@given(
    content=st.lists(
        st.fixed_dictionaries({"type": st.just("text"), "text": st.text() | st.just('"isError":true')})
    ),
    is_error=st.sampled_from([None, True, False]),
    more=st.dictionaries(
        st.sampled_from(["isError", "error", "result", "structuredContent", "_meta"]), JSON, max_size=2
    ),
    kind=st.sampled_from(["result", "error", "both"]),
    first=st.booleans(),
    spaced=st.booleans(),
    event=st.booleans(),
)
def test_how_an_answer_ended_is_seen_however_it_is_written(
    content, is_error, more, kind, first, spaced, event
) -> None:
    result = {"content": content, "structuredContent": more} | (
        {} if is_error is None else {"isError": is_error}
    )
    parts = (
        {"result": result} if kind == "result" else {"error": {"code": 1, "message": "no", "data": more}}
    )
    answer = parts | {"jsonrpc": "2.0", "id": 1} if first else {"jsonrpc": "2.0", "id": 1} | parts
    if kind == "both":
        answer = {"jsonrpc": "2.0", "id": 1, "error": answer["error"], "result": result}
    body = msgspec.json.encode(answer)
    if spaced and not event:
        body = msgspec.json.format(body)
    if event:
        body = b"event: message\ndata: " + body + b"\n\n"
    assert succeeded(body) == (kind == "result" and not is_error)
    if is_plain_result(body, b"1", events=event):
        outcome = read_events(body) if event else read_answer(body)
        assert outcome.complete
        assert bears(body, b"1", events=event)


def test_a_plain_result_is_known_by_its_ends_and_nothing_else_is_taken_for_one() -> None:
    plain = b'{"jsonrpc":"2.0","id":"a","result":{"content":[],"isError":false,"resultType":"complete"}}'
    asks = b'{"jsonrpc":"2.0","id":"b","result":{"resultType":"input_required","requestState":"s"}}'
    assert is_plain_result(plain, b'"a"')
    assert is_plain_result(b"event: message\r\ndata: " + plain + b"\r\n\r\n", b'"a"', events=True)
    assert is_plain_result(b"data: " + plain + b"\n\n", b'"a"', events=True)
    for events in (
        b"data: " + plain + b"\n\ndata: " + asks + b"\n\n",
        b"data: " + plain[:-2] + b"\rdata: }}\n\n",
        b"data: " + plain[:60] + b"\n\ndata: " + plain[60:] + b"\n\n",
        b": data: " + plain + b"\n\n",
    ):
        assert not is_plain_result(events, b'"a"', events=True)
    assert not is_plain_result(plain, b'"b"')
    assert not is_plain_result(asks, b'"b"')
    assert not is_plain_result(plain.replace(b"false", b"true"), b'"a"')


def test_the_answer_at_the_end_of_an_event_stream_is_read() -> None:
    progress = (
        b'event: message\r\ndata: {"jsonrpc":"2.0","method":"notifications/progress","params":{}}\r\n\r\n'
    )
    answer = b'event: message\r\ndata: {"jsonrpc":"2.0","id":2,"result":{"content":[]}}\r\n\r\n'
    assert read_events(b": ping\r\n\r\n" + progress + answer).result == b'{"content":[]}'
    question = b'data: {"jsonrpc":"2.0","id":9,"method":"elicitation/create"}\n\n'
    conversed = read_events(question + answer)
    assert conversed.ok
    assert not conversed.complete
    assert not read_events(progress).ok


def test_a_kept_result_is_answered_under_the_callers_id() -> None:
    assert msgspec.json.decode(result_body(b'"x-1"', b'{"content":[]}')) == {
        "jsonrpc": "2.0",
        "id": "x-1",
        "result": {"content": []},
    }


@given(
    st.lists(
        st.sampled_from(
            ["\\ud800", "\\uDBff", "\\udc00", "\\uDFFF", "\\\\", "\\u0041", '\\"', "ud800", "\\n", "\u00e9"]
        ),
        max_size=12,
    )
)
def test_halves_of_pairs_and_nothing_else_are_replaced(pieces: list[str]) -> None:
    written = '"' + "".join(pieces) + '"'
    expected = "".join("\ufffd" if "\ud800" <= c <= "\udfff" else c for c in json.loads(written))
    mended = strictness.without_halves(written.encode())
    if mended is None:
        assert "\ufffd" not in expected
    else:
        assert len(mended) == len(written.encode())
        assert json.loads(mended) == expected


def test_every_counted_method_is_read_at_the_first_look() -> None:
    assert set(get_args(get_type_hints(CountedCall)["method"])) == set(COUNTED)
