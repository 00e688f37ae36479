"""Whether a child is as it should be, told without asking."""

import copy

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcpace_operator.drift import HASH, ChildId, covers, fingerprint, in_sync, remember, stamped
from mcpace_operator.observed import Observed
from mcpace_operator.reconcile import decide
from mcpace_operator.server import Key

DESIRED = {
    "apiVersion": "v1",
    "kind": "Service",
    "metadata": {"name": "weather", "namespace": "ns", "labels": {"mcpace.dev/server": "weather"}},
    "spec": {"selector": {"a": "b"}, "ports": [{"name": "mcp", "port": 80}, {"name": "x", "port": 81}]},
}

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


def live(desired=DESIRED, version="5", owned="f:spec", uid="u1"):
    """What the API server makes of a desired child: defaults, a version, who owns what."""
    body = copy.deepcopy(stamped(desired))
    body["metadata"] |= {
        "resourceVersion": version,
        "ownerReferences": [{"controller": True, "uid": uid}],
        "managedFields": [{"manager": "mcpace", "operation": "Apply", "fieldsV1": {owned: {}}}],
    }
    body["spec"]["clusterIP"] = "10.0.0.1"
    body["spec"]["ports"] = [port | {"protocol": "TCP"} for port in reversed(body["spec"]["ports"])]
    return body


@given(VALUES)
def test_everything_covers_itself(value):
    assert covers(value, copy.deepcopy(value))


def test_what_the_server_added_or_reordered_is_no_drift():
    assert in_sync(remember(live()), DESIRED, left=None)


@pytest.mark.parametrize(
    "change",
    [
        lambda body: body["spec"]["ports"][0].update(port=99),
        lambda body: body["spec"]["ports"].pop(0),
        lambda body: body["spec"]["selector"].clear(),
        lambda body: body["metadata"]["annotations"].update({HASH: "other"}),
    ],
)
def test_a_change_by_hand_is_seen(change):
    body = live(owned="f:less")
    change(body)
    assert not in_sync(remember(body), DESIRED, left=remember(live()).owned)


def test_owning_what_we_left_is_enough_once_that_is_known():
    child = remember(live())
    child.body = None
    assert in_sync(child, DESIRED, left=child.owned)
    assert not in_sync(child, DESIRED, left=None)


def test_a_new_desire_is_never_in_sync_with_the_old_one():
    changed = copy.deepcopy(DESIRED)
    changed["spec"]["selector"]["a"] = "c"
    assert not in_sync(remember(live()), changed, left=remember(live()).owned)
    assert fingerprint(changed) != fingerprint(DESIRED)


def test_missing_children_are_made_ours_are_mended_and_others_are_left_alone():
    child_id = ChildId("Service", "weather")
    (missing,) = decide([DESIRED], {}, {}, "u1")
    assert (missing.apply, missing.ours, missing.foreign) == (True, False, False)
    (same,) = decide([DESIRED], {child_id: remember(live())}, {}, "u1")
    assert not same.apply
    (foreign,) = decide([DESIRED], {child_id: remember(live(uid="u2"))}, {}, "u1")
    assert foreign.foreign


def test_events_older_than_our_own_apply_are_dropped():
    observed = Observed()
    key = Key("ns", "weather")
    observed.applied(key, live(version="7"), "Service")
    assert observed.see("Service", live(version="6"), deleted=False) is None
    assert observed.see("Service", live(version="7"), deleted=False) is None
    assert observed.see("Service", live(version="8"), deleted=False) == key


def test_bodies_are_held_only_until_they_are_found_in_sync():
    observed = Observed()
    key, child_id = Key("ns", "weather"), ChildId("Service", "weather")
    observed.see("Service", live(), deleted=False)
    assert observed.children[key][child_id].body is not None
    observed.satisfied(key, child_id)
    observed.see("Service", live(version="6"), deleted=False)
    assert observed.children[key][child_id].body is None
