"""The pods: what stands in them, in which order, and what a manifest may change of it."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.kit.mcpserver import SETTINGS, built, context, pod

from mcpace_operator.children import children
from mcpace_operator.children.template import merged
from mcpace_operator.comparison.drift import CAUSE
from mcpace_operator.resource.server import RELEASE

DATABASE = {"database": {"secretRef": {"name": "weather-db"}}}


def names(template, what="initContainers"):
    return [container["name"] for container in template["spec"][what]]


def container(template, name):
    every = template["spec"]["initContainers"] + template["spec"]["containers"]
    (found,) = [c for c in every if c["name"] == name]
    return found


def test_the_sidecar_starts_first_and_so_ends_last():
    template = pod(**DATABASE)
    assert names(template) == ["mcpace", "pgbouncer-config", "pgbouncer"]
    assert container(template, "mcpace")["restartPolicy"] == "Always"
    assert container(template, "pgbouncer")["restartPolicy"] == "Always"
    assert "restartPolicy" not in container(template, "pgbouncer-config")


def test_what_is_put_beside_the_server_is_restricted():
    template = pod(**DATABASE)
    for name in names(template):
        said = container(template, name)["securityContext"]
        assert said["readOnlyRootFilesystem"], name
        assert said["capabilities"] == {"drop": ["ALL"]}, name
        assert said["seccompProfile"] == {"type": "RuntimeDefault"}, name
        assert said["runAsNonRoot"], name


def test_both_containers_are_probed_and_the_server_may_listen_on_the_loopback():
    template = pod(port=9000, sidecar={"adminPort": 19000})
    liveness = container(template, "server")["livenessProbe"]
    assert liveness["httpGet"] == {"path": "/serverz", "port": 19000, "scheme": "HTTP"}
    patience = liveness["periodSeconds"] * liveness["failureThreshold"]
    assert (patience, liveness["initialDelaySeconds"] + patience) == (120, 300), (
        "once it runs, and to start"
    )
    assert "startupProbe" not in container(template, "server"), "the pod would wait a second for it"
    assert container(template, "mcpace")["readinessProbe"]["httpGet"]["path"] == "/readyz?wait"


def test_a_server_that_calls_out_through_a_door_starts_once_the_sidecar_listens():
    assert "startupProbe" not in container(pod(), "mcpace"), "otherwise both start at once"
    door = {"name": "api", "url": "https://api.example", "port": 19100}
    assert container(pod(egress=[door]), "mcpace")["startupProbe"]["httpGet"]["path"] == "/healthz"


def test_replicas_are_spread_over_zones_and_nodes():
    spread = pod()["spec"]["topologySpreadConstraints"]
    assert [s["topologyKey"] for s in spread] == ["topology.kubernetes.io/zone", "kubernetes.io/hostname"]
    assert {s["whenUnsatisfiable"] for s in spread} == {"ScheduleAnyway"}


def test_the_database_is_reached_through_pgbouncer_alone():
    template = pod(**DATABASE, env=[{"name": "OTHER", "value": "1"}])
    env = {e["name"]: e["value"] for e in container(template, "server")["env"]}
    assert env["DATABASE_URL"] == "postgresql://mcpace@127.0.0.1:6432/mcpace?sslmode=disable"
    assert env["OTHER"] == "1"
    holders = [
        name
        for name in [*names(template), *names(template, "containers")]
        if "weather-db" in repr(container(template, name))
    ]
    assert holders == ["pgbouncer-config"]
    assert "DATABASE_URL" not in repr(pod())


def test_a_database_url_of_the_manifests_own_counts():
    own = {"name": "DATABASE_URL", "valueFrom": {"secretKeyRef": {"name": "mine", "key": "url"}}}
    assert container(pod(**DATABASE, env=[own]), "server")["env"] == [own]


def test_a_template_is_merged_over_the_pod():
    template = pod(
        env=[{"name": "A", "value": "1"}],
        podTemplate={
            "metadata": {"labels": {"team": "sky"}, "annotations": {"note": "x"}},
            "spec": {
                "nodeSelector": {"disk": "ssd"},
                "topologySpreadConstraints": [],
                "containers": [
                    {"name": "server", "env": [{"name": "B", "value": "2"}], "tty": True},
                    {"name": "extra", "image": "busybox"},
                ],
                "initContainers": [{"name": "mcpace", "env": [{"name": "OTEL_X", "value": "y"}]}],
                "volumes": [{"name": "scratch", "emptyDir": {}}],
            },
        },
    )
    assert template["metadata"]["labels"]["team"] == "sky"
    assert template["metadata"]["annotations"]["note"] == "x"
    assert template["spec"]["nodeSelector"] == {"disk": "ssd"}
    assert template["spec"]["topologySpreadConstraints"] == []
    assert names(template, "containers") == ["server", "extra"]
    server = container(template, "server")
    assert (server["image"], server["tty"]) == ("weather:1", True)
    assert [e["name"] for e in server["env"]] == ["A", "B"]
    sidecar = {e["name"] for e in container(template, "mcpace")["env"]}
    assert {"MCPACE_ADMIN_TOKEN", "OTEL_X"} <= sidecar
    assert [v["name"] for v in template["spec"]["volumes"]] == ["mcpace-config", "scratch"]


@pytest.mark.parametrize(
    "written",
    [
        {"spec": {"initContainers": []}},
        {"spec": {"initContainers": None, "containers": None}},
        {"spec": {"initContainers": [{"name": "mcpace", "restartPolicy": "Never", "image": None}]}},
        {"metadata": {"labels": {"mcpace.dev/server": "other", "app.kubernetes.io/managed-by": "me"}}},
    ],
)
def test_no_template_removes_the_sidecar_or_the_labels_that_find_the_pods(written):
    template = pod(podTemplate=written)
    assert names(template) == ["mcpace"]
    assert container(template, "mcpace")["restartPolicy"] == "Always"
    assert container(template, "mcpace")["image"] == SETTINGS.sidecar_image
    assert template["metadata"]["labels"]["mcpace.dev/server"] == "weather"
    assert template["metadata"]["labels"]["app.kubernetes.io/managed-by"] == "mcpace"


def test_pods_name_the_release_that_made_them_and_are_not_replaced_for_it():
    settings = replace(SETTINGS, instance="team-a/" + "long" * 15)
    one, other = [
        next(child for child in children(context(settings=s)) if child["kind"] == "Deployment")
        for s in (SETTINGS, settings)
    ]
    label = other["spec"]["template"]["metadata"]["labels"][RELEASE]
    assert label == ("team-a." + "long" * 15)[:63]
    assert RELEASE not in other["spec"]["selector"]["matchLabels"]
    assert one["spec"]["template"]["metadata"]["labels"][RELEASE] != label
    assert one["metadata"]["annotations"][CAUSE] == other["metadata"]["annotations"][CAUSE]


TREES = st.recursive(
    st.none() | st.booleans() | st.text(max_size=3),
    lambda inner: (
        st.dictionaries(st.sampled_from(["containers", "env", "volumes", "x"]), inner, max_size=3)
        | st.lists(
            st.fixed_dictionaries({"name": st.sampled_from("abc")}, optional={"x": inner}), max_size=3
        )
    ),
    max_leaves=8,
)


@given(TREES)
def test_merging_nothing_and_merging_twice_change_nothing(tree):
    assert merged(tree, None) == tree
    once = merged({"spec": tree}, {"spec": {"x": {"y": 1}}})
    assert merged(once, {"spec": {"x": {"y": 1}}}) == once


def cause(**spec):
    return built(**spec)["Deployment"]["metadata"]["annotations"][CAUSE]


STDIO = {"transport": "stdio", "command": ["a"]}


def test_only_what_the_pods_are_made_from_is_a_cause_to_make_new_ones():
    same = (
        {},
        {"rateLimits": {}},
        {"replicas": 5},
        {"path": "/other"},
        {"upstream": {"timeout": "1m"}},
        {"sessions": {"maxAge": "1h"}},
        {"monitoring": {"accessLog": True}},
        {"networkPolicy": {}},
        {"podDisruptionBudget": {"enabled": False}},
    )
    assert len({cause(**spec) for spec in same}) == 1
    other = (
        {"image": "weather:2"},
        {"env": [{"name": "A", "value": "1"}]},
        {"port": 9000},
        {"drainTimeout": "5m"},
        {"sessions": {"continuity": False}},
        {"egress": [{"name": "a", "url": "https://a.example", "port": 18081}]},
        STDIO,
        STDIO | {"stdio": {"warm": 2}},
        {"sidecar": {"port": 9000}},
        {"resources": {"limits": {"memory": "1Gi"}}},
        {"podTemplate": {"spec": {"nodeSelector": {"a": "b"}}}},
        {"autoscaling": {"maxReplicas": 3}},
        {"cache": {"maxBytes": "1Gi", "tools": []}},
        {"clients": {"apiKeys": [{"tier": "pro", "secretRef": {"name": "k"}}]}},
        DATABASE,
    )
    assert len({cause(**spec) for spec in ({}, *other)}) == len(other) + 1


def test_an_upgrade_rolls_the_pods_only_where_the_manifest_wants_it():
    def made(settings, **spec):
        (deployment,) = [
            c for c in children(context(settings=settings, **spec)) if c["kind"] == "Deployment"
        ]
        return deployment["metadata"]["annotations"][CAUSE]

    newer = replace(SETTINGS, sidecar_image="mcpace/sidecar:9")
    assert made(SETTINGS) == made(newer)
    rolling = {"sidecar": {"rollOnUpgrade": True}}
    assert made(SETTINGS, **rolling) != made(newer, **rolling)


def rendered(settings, *, restricted=False, **spec):
    made = replace(context(**spec), settings=settings, restricted=restricted)
    return next(child for child in children(made) if child["kind"] == "Deployment")


def test_where_the_cluster_chooses_users_no_container_names_one():
    template = rendered(replace(SETTINGS, fixed_user_ids=False), **DATABASE)["spec"]["template"]
    beside = [container(template, name)["securityContext"] for name in names(template)]
    assert not [said for said in beside if {"runAsUser", "runAsGroup"} & said.keys()]
    assert all(said["runAsNonRoot"] for said in beside), "but none of ours may be root"


def test_the_releases_pull_secrets_join_those_of_the_manifest():
    settings = replace(SETTINGS, pull_secrets=("mirror", "own"))
    pulled = rendered(settings, imagePullSecrets=[{"name": "own"}])["spec"]["template"]["spec"]
    assert pulled["imagePullSecrets"] == [{"name": "own"}, {"name": "mirror"}]
    assert "imagePullSecrets" not in pod()["spec"]


def test_a_restricted_namespace_changes_nothing_that_the_manifest_says():
    written = {"runAsUser": 7, "capabilities": {"drop": ["NET_RAW"]}}
    template = rendered(SETTINGS, restricted=True, securityContext=written)["spec"]["template"]
    said = container(template, "server")["securityContext"]
    assert written.items() <= said.items()
    assert said["runAsNonRoot"]


def test_pods_roll_for_what_they_cannot_do_without_and_for_nothing_else():
    def cause(settings=SETTINGS, **spec):
        return rendered(settings, **spec)["metadata"]["annotations"][CAUSE]

    mirror = replace(SETTINGS, pull_secrets=("mirror",))
    assert (
        len(
            {cause(), cause(replace(SETTINGS, fixed_user_ids=False)), cause(mirror), cause(restricted=True)}
        )
        == 4
    )
    written = {"imagePullSecrets": [{"name": "mirror"}]}
    assert cause(mirror, **written) == cause(**written)
    mine = {"securityContext": {"runAsNonRoot": True, "capabilities": {"drop": ["ALL"]}}}
    assert cause(restricted=True, **mine) == cause(**mine)
