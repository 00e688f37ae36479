"""What others added to a child, told by its managedFields."""

import copy
import json

import pytest
from tests.kit.mcpserver import DONE, NONE, NOW, built, context, deployment
from tests.kit.work import assert_linear

from mcpace_operator.comparison.additions import additions, without
from mcpace_operator.comparison.drift import ChildId
from mcpace_operator.status.document import status
from mcpace_operator.status.seen import Seen

POD = ("f:template", "f:spec")
SERVER = 'k:{"name":"server"}'
SIDECAR = 'k:{"name":"mcpace"}'


def fields(value):
    """The fields of an object, as an API server notes them for whoever wrote it."""
    if isinstance(value, dict):
        return {f"f:{name}": fields(item) for name, item in value.items()}
    if (
        isinstance(value, list)
        and value
        and all(isinstance(item, dict) and "name" in item for item in value)
    ):
        return {f"k:{json.dumps({'name': item['name']}, separators=(',', ':'))}": {".": {}} | fields(item) for item in value}  # fmt: skip
    return {}


def changed(kind, change, path, manager="kubectl-edit", **spec):
    """A child of ours that somebody changed, who owns the path from then on."""
    body = copy.deepcopy(built(**spec)[kind])
    ours = {"f:spec": fields(body["spec"])}
    change(body["spec"])
    theirs = {}
    place = theirs
    for step in path:
        place = place.setdefault(step, {})
    body["metadata"]["managedFields"] = [
        {"manager": "mcpace", "operation": "Apply", "fieldsV1": ours},
        {"manager": "kube-controller-manager", "operation": "Update", "subresource": "status", "fieldsV1": {"f:status": {}}},
        {"manager": manager, "operation": "Update", "fieldsV1": {"f:spec": theirs}},
    ]  # fmt: skip
    return body


def pod(change):
    return lambda spec: change(spec["template"]["spec"])


DEBUG = {"name": "debug", "image": "busybox"}
CASES = [
    ("Deployment", lambda s: s.update(paused=True), ("f:paused",), "spec.paused (by kubectl-edit)", False),
    ("Deployment", pod(lambda p: p["containers"].append(DEBUG)),
     (*POD, "f:containers", 'k:{"name":"debug"}'), "spec.template.spec.containers[debug] (by kubectl-edit)", False),
    ("Deployment", pod(lambda p: p["initContainers"].append(DEBUG)),
     (*POD, "f:initContainers", 'k:{"name":"debug"}'), "spec.template.spec.initContainers[debug] (by kubectl-edit)", False),
    ("Deployment", pod(lambda p: p["containers"][0].update(env=[{"name": "A", "value": "1"}])),
     (*POD, "f:containers", SERVER, "f:env"), "spec.template.spec.containers[server].env (by kubectl-edit)", False),
    ("Deployment", pod(lambda p: p["containers"].append(DEBUG | {"ports": [{"containerPort": 18080}]})),
     (*POD, "f:containers", 'k:{"name":"debug"}'), "spec.template.spec.containers[debug] (by kubectl-edit)", True),
    ("Deployment", pod(lambda p: p["containers"].append(DEBUG | {"ports": [{"name": "mcp", "containerPort": 1}]})),
     (*POD, "f:containers", 'k:{"name":"debug"}'), "spec.template.spec.containers[debug] (by kubectl-edit)", True),
    ("Deployment", pod(lambda p: p.update(hostNetwork=True)), (*POD, "f:hostNetwork"), "spec.template.spec.hostNetwork (by kubectl-edit)", True),
    ("Deployment", pod(lambda p: p.update(shareProcessNamespace=True)),
     (*POD, "f:shareProcessNamespace"), "spec.template.spec.shareProcessNamespace (by kubectl-edit)", True),
    ("Deployment", pod(lambda p: p["initContainers"][0].update(command=["sh"])),
     (*POD, "f:initContainers", SIDECAR, "f:command"), "spec.template.spec.initContainers[mcpace].command (by kubectl-edit)", True),
    ("Deployment", pod(lambda p: p["initContainers"][0]["env"].append({"name": "X", "value": "1"})),
     (*POD, "f:initContainers", SIDECAR, "f:env", 'k:{"name":"X"}'), "spec.template.spec.initContainers[mcpace].env[X] (by kubectl-edit)", True),
    ("Service", lambda s: s["selector"].update(a="b"), ("f:selector", "f:a"), "spec.selector.a (by kubectl-edit)", True),
    ("Service", lambda s: s.update(type="NodePort"), ("f:type",), "spec.type (by kubectl-edit)", False),
    ("Service", lambda s: s.update(type="ExternalName"), ("f:type",), "spec.type (by kubectl-edit)", True),
]  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "change", "path", "words", "undoes"), CASES, ids=[f"{c[3]}-{c[4]}-{n}" for n, c in enumerate(CASES)]
)  # fmt: skip
def test_an_addition_is_named_and_weighed(kind, change, path, words, undoes):
    (found,) = additions(kind, changed(kind, change, path))
    assert str(found) == words
    assert found.undoes is undoes


@pytest.mark.parametrize(
    ("change", "path"),
    [
        (lambda s: s.update(replicas=7), ("f:replicas",)),
        (lambda s: s["template"]["metadata"]["annotations"].update(x="y"), ("f:template", "f:metadata", "f:annotations", "f:x")),
        (lambda s: s.update(paused=False), ("f:paused",)),
        (lambda _: None, (*POD, "f:containers", SERVER, "f:image")),
    ],
)  # fmt: skip
def test_what_others_may_write_or_what_is_ours_too_is_no_addition(change, path):
    assert additions("Deployment", changed("Deployment", change, path)) == ()


def test_what_the_manifest_has_is_no_addition():
    template = {"spec": {"hostNetwork": True, "containers": [DEBUG]}}
    body = changed("Deployment", lambda _: None, (*POD, "f:hostNetwork"), podTemplate=template)
    assert additions("Deployment", body) == ()


def test_an_addition_is_taken_away_by_a_strategic_merge_patch():
    (item,) = additions("Deployment", changed("Deployment", *CASES[9][1:3]))
    place = {"name": "mcpace", "env": [{"name": "X", "$patch": "delete"}]}
    assert without(item) == {"spec": {"template": {"spec": {"initContainers": [place]}}}}
    (field,) = additions("Service", changed("Service", *CASES[10][1:3]))
    assert without(field) == {"spec": {"selector": {"a": None}}}


def conditions(told, altered):
    said = status(Seen(context(replicas=2), deployment(told), NONE, NONE, altered=altered), NOW)
    return {c["type"]: (c["status"], c["reason"], c["message"]) for c in said["conditions"]}


def test_a_paused_deployment_is_said_and_what_was_added_too():
    found = additions("Deployment", changed("Deployment", *CASES[0][1:3]))
    said = conditions(
        DONE | {"updatedReplicas": 1, "paused": True}, {ChildId("Deployment", "weather"): found}
    )
    assert said["Ready"] == (
        "False",
        "PausedByHand",
        "Paused by hand: kubectl rollout resume deployment/weather",
    )
    assert said["Progressing"][:2] == ("False", "PausedByHand")
    assert said["ChildrenInSync"][:2] == ("False", "ChildAltered")
    assert "Deployment weather has spec.paused (by kubectl-edit)" in said["ChildrenInSync"][2]
    assert conditions(DONE | {"paused": True}, {})["Ready"][0] == "True", "nothing waits for it"


def test_whoever_calls_themselves_as_we_are_called_adds_no_less():
    debug = {"name": "debug", "image": "x", "ports": [{"containerPort": 18080}]}
    step = 'k:{"name":"debug"}'
    for manager in ("mcpace-too", "mcpace", "mcpace-scale"):
        body = changed(
            "Deployment",
            lambda spec: spec["template"]["spec"]["containers"].append(debug),
            (*POD, "f:containers", step),
            manager,
        )
        (added,) = additions("Deployment", body)
        assert (added.by, added.undoes) == (manager, True)


def crowded(many):
    """A Deployment to which somebody added many variables and containers, each with the sidecar's port."""
    env = [{"name": f"A{number}", "value": "x"} for number in range(many)]
    more = [{"name": f"c{number}", "ports": [{"containerPort": 18080}]} for number in range(many)]
    ours = {"name": "server", "env": env[:1]}
    theirs = [{"name": "server", "env": env[1:]}, *more]
    spec = lambda containers: {"f:spec": {"f:template": {"f:spec": {"f:containers": fields(containers)}}}}  # noqa: E731
    entries = [
        {"manager": "mcpace", "operation": "Apply", "fieldsV1": spec([ours])},
        {"manager": "somebody", "operation": "Update", "fieldsV1": spec(theirs)},
    ]
    containers = [{"name": "server", "env": env}, *more]
    return {
        "metadata": {"managedFields": entries},
        "spec": {"template": {"spec": {"containers": containers}}},
    }


def test_many_additions_are_found_in_time_that_grows_with_their_number():
    assert len(additions("Deployment", crowded(50))) == 49 + 50
    assert_linear(crowded, lambda body: additions("Deployment", body), 150)
