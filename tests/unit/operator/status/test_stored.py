"""The conditions that stand in a status, whoever wrote them."""

import pytest

from mcpace_operator.status.stored import stored

READY = {"type": "Ready", "status": "True", "reason": "AllReplicasReady", "message": "2 of 2."}
FULL = READY | {"lastTransitionTime": "2026-11-22T12:00:00Z", "observedGeneration": 4}


@pytest.mark.parametrize("written", [READY, FULL, {"type": "Future", "status": "Unknown"}])
def test_what_is_read_is_written_as_it_was(written):
    (condition,) = stored({"conditions": [written]}).values()
    assert condition.type == written["type"]
    assert condition.document() == written


@pytest.mark.parametrize(
    "odd", ["what", None, 5, {}, {"type": "Ready"}, FULL | {"observedGeneration": "4"}]
)
def test_what_nobody_can_read_is_left_out_and_the_others_are_read(odd):
    assert list(stored({"conditions": [odd, FULL | {"type": "Available"}]})) == ["Available"]


@pytest.mark.parametrize("odd", ["what", None, 5, {}, {"type": "Ready"}])
def test_conditions_that_are_no_list_are_none(odd):
    assert stored({"conditions": odd}) == stored({}) == {}
