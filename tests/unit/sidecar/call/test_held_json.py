"""What is read of JSON that is too long to be held."""

from __future__ import annotations

from itertools import accumulate, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcpace_sidecar.call.held_json import Seen

LONG = b"an error of a mirror " * 20
ANSWERS = {
    b'{"result":{"text":"%b","isError":true},"id":1}' % LONG: True,
    b'{"result":{"text":"%b","isError" : true},"id":1}' % LONG: True,
    b'{"error":{"message":"%b"},"id":1}' % LONG: True,
    b'{"result":{"text":"%b","isError":false},"id":1}' % LONG: False,
    b'{"result":{"text":"\\"error\\": %b"},"id":1}' % LONG: False,
}


@pytest.mark.parametrize("answer", ANSWERS)
@given(cuts=st.lists(st.integers(1, 60), max_size=40))
def test_signs_of_an_error_are_seen_in_whatever_pieces_they_come(answer: bytes, cuts: list[int]) -> None:
    seen = Seen()
    for start, end in pairwise([*accumulate(cuts, initial=0), len(answer)]):
        seen.look_at(answer[start : max(start, end)])
    assert seen.suspect == ANSWERS[answer]
