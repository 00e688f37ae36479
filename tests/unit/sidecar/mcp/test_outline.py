"""The top level of JSON that is never whole."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcpace_sidecar.mcp.outline import MAX_TOKEN, Outline

IDS = st.one_of(st.integers(), st.text(max_size=30), st.floats(allow_nan=False, allow_infinity=False))
TEXTS = st.one_of(st.text(), st.text(alphabet='[]{}"\\\\,: id'))
VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), TEXTS),
    lambda inner: st.one_of(st.lists(inner), st.dictionaries(TEXTS, inner)),
)
CUTS = st.lists(st.integers(1, 40), max_size=50)


def outlined(body: bytes, cuts: list[int]) -> Outline:
    outline = Outline()
    for size in cuts:
        outline.feed(body[:size])
        body = body[size:]
    outline.feed(body)
    outline.flush()
    return outline


@given(
    message_id=IDS,
    values=st.tuples(VALUES, VALUES),
    order=st.permutations(["id", "result", "jsonrpc", "more"]),
    indent=st.sampled_from([None, 1]),
    ascii_only=st.booleans(),
    cuts=CUTS,
)
def test_the_id_of_a_result_is_found_wherever_it_stands_in_any_cut(
    message_id, values, order, indent, ascii_only, cuts
) -> None:
    members = {"id": message_id, "result": values[0], "jsonrpc": "2.0", "more": values[1]}
    body = json.dumps({name: members[name] for name in order}, indent=indent, ensure_ascii=ascii_only)
    outline = outlined(body.encode(errors="replace"), cuts)
    assert (outline.done, outline.is_response, outline.is_error) == (True, True, False)
    assert json.loads(outline.id) == json.loads(json.dumps(message_id).encode(errors="replace"))


LONG = b"x" * 3 * MAX_TOKEN
CASES = {
    "an id within the result": (b'{"result":{"id":5}}', b"", True),
    "an id within a text": (b'{"result":"\\"id\\":5,"}', b"", True),
    "an id with an escape": (rb'{"\u0069d":5,"result":1}', b"5", True),
    "an error": (b'{"id":5,"error":{"code":1}}', b"5", True),
    "a request": (b'{"id":5,"method":"m"}', b"5", False),
    "an array": (b'[{"id":5,"result":1}]', b"", False),
    "no JSON": (b'ok, "id": 5', b"", False),
    "a long text before it": (b'{"more":"%b","id":5,"result":1}' % LONG, b"5", True),
    "a long name before it": (b'{"%b":1,"id":5,"result":1}' % LONG, b"5", True),
    "a long number before it": (b'{"more":%b,"id":5,"result":1}' % (b"7" * 3 * MAX_TOKEN), b"5", True),
    "a long id": (b'{"result":1,"id":"%b"}' % LONG, b'"' + LONG[: MAX_TOKEN - 1], True),
    "more members than a response has": (b"{%b" % (b'"a":1,' * 1000), b"", True),
}


@pytest.mark.parametrize("cut", [1, 7, 4096, 1 << 20])
@pytest.mark.parametrize("case", CASES)
def test_what_a_top_level_says(case: str, cut: int) -> None:
    body, message_id, is_response = CASES[case]
    outline = outlined(body, [cut] * (len(body) // cut))
    assert (outline.id, outline.is_response) == (message_id, is_response)
    assert outline.is_error == (case == "an error")
