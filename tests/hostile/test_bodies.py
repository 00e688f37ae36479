"""Bodies that are valid and odd: each is answered, and judged as the server reads it."""

import pytest
from tests.conftest import Heard, Scripted, Start, json_answer

CACHED = {"cache": {"tools": [{"name": "t", "ttl": "1m", "scope": "shared"}]}}


def call_of(arguments: bytes, message_id: bytes = b"7") -> bytes:
    return b'{"jsonrpc":"2.0","id":%b,"method":"tools/call","params":{"name":"t","arguments":%b}}' % (
        message_id,
        arguments,
    )


class Numbering:
    """Answers each call with its number, under the id it was asked with."""

    def __init__(self, scripted: Scripted) -> None:
        self.bodies: list[bytes] = []
        scripted.answer = self.answer

    def answer(self, heard: Heard) -> bytes:
        if b"tools/call" not in heard.body:
            return json_answer(b'{"jsonrpc":"2.0","id":1,"error":{"code":-32601,"message":"no"}}')
        self.bodies.append(heard.body)
        return json_answer(b'{"jsonrpc":"2.0","id":7,"result":{"n":%d}}' % len(self.bodies))


@pytest.mark.parametrize(
    "arguments",
    [
        b'{"x":%b}' % (b"7" * 4301),
        b'{"x": %b}' % (b"7" * 4301),
        b'{"x":-%b}' % (b"7" * 100_000),
        b'{"x":-0}',
        b'{"x":[0, -0]}',
    ],
    ids=["4301 digits", "4301 digits and a space", "100000 digits", "-0", "-0 in an array"],
)
async def test_arguments_that_have_no_one_spelling_are_asked_for_each_time(
    scripted: Scripted, start: Start, arguments: bytes
) -> None:
    server = Numbering(scripted)
    sidecar = await start(scripted.port, CACHED)
    for expected in (1, 2):
        status, _, body = await sidecar.post(call_of(arguments))
        assert (status, body["result"]) == (200, {"n": expected})
    assert server.bodies == [call_of(arguments)] * 2
    assert not sidecar.sidecar.plane.in_flight


@pytest.mark.parametrize("spelling", [b"1e400", b"-1e-400", b"0.10000000000000000001", b"7" * 4000])
async def test_numbers_beyond_a_double_are_kept_by_their_spelling(
    scripted: Scripted, start: Start, spelling: bytes
) -> None:
    server = Numbering(scripted)
    sidecar = await start(scripted.port, CACHED)
    for _ in range(2):
        _, _, body = await sidecar.post(call_of(b'{"x":%b}' % spelling))
        assert body["result"] == {"n": 1}
    _, _, body = await sidecar.post(call_of(b'{"x":%b}' % (spelling + b"1")))
    assert body["result"] == {"n": 2}
    assert len(server.bodies) == 2


@pytest.mark.parametrize("levels", [970, 5_000, 200_000])
@pytest.mark.parametrize("spaced", [False, True])
async def test_whatever_is_nested_is_answered_and_nothing_stays(
    scripted: Scripted, start: Start, levels: int, spaced: bool
) -> None:
    Numbering(scripted)
    sidecar = await start(scripted.port, CACHED)
    arguments = b'{"x":%b%b}' % (b" " * spaced, b"[" * levels + b"]" * levels)
    status, _, body = await sidecar.post(call_of(arguments))
    if status == 400:
        assert "nested too deeply" in body["error"]["message"]
    else:
        assert body["result"] == {"n": 1}
    assert not sidecar.sidecar.plane.in_flight
    assert (await sidecar.post(call_of(b"{}")))[0] == 200


async def test_a_name_that_stands_twice_is_refused_with_the_calls_own_id(
    scripted: Scripted, start: Start
) -> None:
    Numbering(scripted)
    sidecar = await start(scripted.port, CACHED)
    status, _, body = await sidecar.post(call_of(b'{"a":1,"a":2}', b'"mine"'))
    assert (status, body["id"]) == (400, "mine")
    assert "twice" in body["error"]["message"]
