"""Whether a child is as it should be, told without asking."""

import copy

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcpace_operator.cluster.observed import Observed
from mcpace_operator.comparison.drift import (
    CAUSE,
    HASH,
    ChildId,
    Whose,
    covers,
    fingerprint,
    in_sync,
    remember,
    stamped,
)
from mcpace_operator.reconcile.decide import Action, decide, unwanted
from mcpace_operator.resource.server import SERVER_LABEL, Key, Server

DESIRED = {
    "apiVersion": "v1",
    "kind": "Service",
    "metadata": {"name": "weather", "namespace": "ns", "labels": {"mcpace.dev/server": "weather"}},
    "spec": {"selector": {"a": "b"}, "ports": [{"name": "mcp", "port": 80}, {"name": "x", "port": 81}]},
}

SERVER = Server(Key("ns", "weather"), "u1", 1, {}, {})

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


def live(desired=DESIRED, version="5", owned="f:spec", uid="u1", **owner):
    """What the API server makes of a desired child: defaults, a version, who owns what."""
    body = copy.deepcopy(stamped(desired))
    body["metadata"] |= {
        "uid": "own",
        "resourceVersion": version,
        "ownerReferences": [{"controller": True, "uid": uid, **owner}] if uid else [],
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


def test_a_map_that_became_anothers_as_a_whole_is_seen_also_after_a_restart():
    body = live()
    body["metadata"]["managedFields"][0]["fieldsV1"] = {"f:spec": {"f:ports": {}}}
    body["spec"]["selector"]["also"] = "this"
    assert not in_sync(remember(body), DESIRED, left=None)


def test_a_new_desire_is_never_in_sync_with_the_old_one():
    changed = copy.deepcopy(DESIRED)
    changed["spec"]["selector"]["a"] = "c"
    assert not in_sync(remember(live()), changed, left=remember(live()).owned)
    assert fingerprint(changed) != fingerprint(DESIRED)


def test_missing_children_are_made_ours_are_mended_and_others_are_left_alone():
    child_id = ChildId("Service", "weather")
    (missing,) = decide([DESIRED], {}, {}, SERVER)
    (same,) = decide([DESIRED], {child_id: remember(live())}, {}, SERVER)
    (changed,) = decide([DESIRED | {"spec": {}}], {child_id: remember(live())}, {}, SERVER)
    (foreign,) = decide([DESIRED], {child_id: remember(live(uid="u2"))}, {}, SERVER)
    actions = [step.action for step in (missing, same, changed, foreign)]
    assert actions == [Action.CREATE, Action.KEEP, Action.APPLY, Action.LEAVE]


FORMER = {"kind": "McpServer", "name": "weather"}


@pytest.mark.parametrize(
    ("body", "action"),
    [
        (live(uid=None), Action.APPLY),
        (live(uid="u0", **FORMER), Action.WAIT),
        (live(uid="u0", kind="McpServer", name="weather-two"), Action.LEAVE),
        (live(uid="u0", kind="Application", name="weather"), Action.LEAVE),
    ],
)
def test_orphans_are_adopted_what_is_being_collected_is_awaited_and_others_are_left(body, action):
    (step,) = decide([DESIRED], {ChildId("Service", "weather"): remember(body)}, {}, SERVER)
    assert step.action is action


def test_an_orphan_of_another_servers_name_or_with_some_owner_is_somebody_elses():
    other = Server(Key("ns", "rain"), "u9", 1, {}, {})
    assert remember(live(uid=None)).whose(other) is Whose.FOREIGN
    owned = live(uid=None)
    owned["metadata"]["ownerReferences"] = [{"uid": "u7", "kind": "Bundle", "name": "weather"}]
    assert remember(owned).whose(SERVER) is Whose.FOREIGN
    bare = live(uid=None)
    bare["metadata"]["labels"] = {}
    assert remember(bare).whose(SERVER) is Whose.FOREIGN


def test_an_orphan_that_we_made_goes_where_it_is_wanted_no_more_and_others_stay():
    scaler = ChildId("HorizontalPodAutoscaler", "weather")
    made, strange = live(uid=None), live(uid=None)
    del strange["metadata"]["annotations"]
    assert unwanted([DESIRED], {scaler: remember(made)}, SERVER) == [scaler]
    assert unwanted([DESIRED], {scaler: remember(strange)}, SERVER) == []


def deployment(version="1", cause="c", **status):
    """A Deployment that an operator of that version made from a manifest of that cause."""
    metadata = {"name": "weather", "namespace": "ns", "annotations": {CAUSE: cause}}
    desired = {
        "kind": "Deployment",
        "metadata": metadata,
        "spec": {"template": {"metadata": {}, "of": version}},
    }
    body = copy.deepcopy(stamped(desired))
    body["metadata"] |= {
        "uid": "own",
        "resourceVersion": "5",
        "ownerReferences": [{"controller": True, "uid": "u1"}],
        "managedFields": [{"manager": "mcpace", "operation": "Apply", "fieldsV1": {"f:spec": {}}}],
    }
    return desired, remember(body | {"status": status})


def test_an_upgrade_leaves_the_pods_of_an_unchanged_manifest_alone():
    newer, _ = deployment("2")
    _, older = deployment("1")
    assert in_sync(older, newer, left=None)
    assert in_sync(older, newer, left=older.owned)
    assert not in_sync(older, newer, left="somebody changed it since")
    changed, _ = deployment("2", cause="d")
    assert not in_sync(older, changed, left=None)


def test_a_deployment_too_old_to_note_its_cause_stays_if_its_operator_knew_the_manifest():
    newer, _ = deployment("2")
    _, ancient = deployment("1", cause="")
    assert in_sync(ancient, newer, left=None, manifest_known=True)
    assert not in_sync(ancient, newer, left=None, manifest_known=False)
    assert not in_sync(ancient, newer, left="somebody changed it since", manifest_known=True)


def test_what_is_wanted_no_more_goes_but_never_what_others_own():
    service, autoscaler = ChildId("Service", "weather"), ChildId("HorizontalPodAutoscaler", "weather")
    mine, theirs = remember(live()), remember(live(uid="u2"))
    assert unwanted([DESIRED], {service: mine, autoscaler: mine}, SERVER) == [autoscaler]
    assert unwanted([DESIRED], {service: mine, autoscaler: theirs}, SERVER) == []


def test_an_old_deployment_goes_once_the_one_that_replaces_it_answers():
    desired, starting = deployment()
    _, answering = deployment(availableReplicas=1)
    new, old = ChildId("Deployment", "weather"), ChildId("Deployment", "weather-of-old")
    assert unwanted([desired], {new: starting, old: answering}, SERVER) == []
    assert unwanted([desired], {new: answering, old: answering}, SERVER) == [old]


def test_events_older_than_our_own_apply_are_dropped():
    observed = Observed()
    key = Key("ns", "weather")
    observed.applied(key, live(version="7"), "Service")
    assert observed.see("Service", live(version="6"), deleted=False) == []
    assert observed.see("Service", live(version="7"), deleted=False) == []
    assert observed.see("Service", live(version="8"), deleted=False) == [key]


def test_bodies_are_held_only_until_they_are_found_in_sync():
    observed = Observed()
    key, child_id = Key("ns", "weather"), ChildId("Service", "weather")
    observed.see("Service", live(), deleted=False)
    assert observed.children[key][child_id].body is not None
    observed.satisfied(key, child_id)
    observed.see("Service", live(version="6"), deleted=False)
    assert observed.children[key][child_id].body is None


def relabelled(version, label):
    body = live(version=version)
    body["metadata"]["labels"] = {**body["metadata"].get("labels", {})}
    body["metadata"]["labels"].pop(SERVER_LABEL, None)
    if label is not None:
        body["metadata"]["labels"][SERVER_LABEL] = label
    return body


@pytest.mark.parametrize("label", ["other", None])
def test_a_child_whose_label_was_changed_is_missed_by_the_server_that_it_was_taken_from(label):
    observed = Observed()
    key, other, child_id = Key("ns", "weather"), Key("ns", "other"), ChildId("Service", "weather")
    observed.applied(key, live(version="5"), "Service")
    turns = observed.see("Service", relabelled("6", label), deleted=False)
    assert turns == ([key, other] if label else [key])
    assert child_id not in observed.children[key]
    observed.applied(key, live(version="7"), "Service")  # put back
    assert child_id in observed.children[key]
    assert child_id not in observed.children[other]


def test_an_object_that_nobody_can_read_is_left_out_and_said(caplog):
    observed = Observed()
    body = live(version="6")
    body["metadata"]["resourceVersion"] = "not a number"
    assert observed.see("Service", body, deleted=False) == []
    assert "Service ns/weather cannot be read" in caplog.text


def test_the_end_of_an_object_says_nothing_of_the_one_that_has_replaced_it():
    observed, key = Observed(), Key("ns", "weather")
    observed.applied(key, live(version="9"), "Service")
    assert observed.see("Service", live(version="8"), deleted=True) == []
    assert observed.children[key]
    assert observed.see("Service", live(version="10"), deleted=True) == [key]
    assert not observed.children[key]
