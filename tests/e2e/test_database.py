"""PgBouncer between a server that opens a connection a call and a real PostgreSQL."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from tests.e2e.cluster import Cluster, until

IMAGE = "mcpace/test-queries:1"
DATABASE = "mcpace/test-postgres:17"
PASSWORD = "a-pass'word/of:the@database"
URI = "postgresql://postgres:a-pass%27word%2Fof%3Athe%40database@postgres.default.svc:5432/postgres"
POSTGRES = {
    "apiVersion": "apps/v1",
    "kind": "StatefulSet",
    "metadata": {"name": "postgres"},
    "spec": {
        "serviceName": "postgres",
        "selector": {"matchLabels": {"app": "postgres"}},
        "template": {
            "metadata": {"labels": {"app": "postgres"}},
            "spec": {
                "terminationGracePeriodSeconds": 1,
                "containers": [
                    {
                        "name": "postgres",
                        "image": DATABASE,
                        "env": [{"name": "POSTGRES_PASSWORD", "value": PASSWORD}],
                        "readinessProbe": {"tcpSocket": {"port": 5432}, "periodSeconds": 1},
                    }
                ],
            },
        },
    },
}
SERVICE = {
    "apiVersion": "v1",
    "kind": "Service",
    "metadata": {"name": "postgres"},
    "spec": {"selector": {"app": "postgres"}, "ports": [{"port": 5432}], "clusterIP": "None"},
}
SECRET = {
    "apiVersion": "v1",
    "kind": "Secret",
    "metadata": {"name": "queries-db"},
    "stringData": {"uri": URI},
}
SPEC: dict[str, Any] = {
    "image": IMAGE,
    "replicas": 1,
    "database": {"secretRef": {"name": "queries-db"}, "image": DATABASE, "maxConnections": 20},
    "concurrency": {"maxInFlight": 250},
}


@pytest.fixture(scope="module")
def queries(cluster: Cluster) -> Iterator[str]:
    """A server with a database."""
    for body in (POSTGRES, SERVICE, SECRET):
        cluster.ok("apply", "-f", "-", stdin=json.dumps(body))
    cluster.ok("rollout", "status", "statefulset/postgres", "--timeout=120s")
    cluster.apply("queries", **SPEC)
    cluster.ready("queries")
    yield "http://queries.default.svc/mcp"
    cluster.ok("delete", "mcpserver", "queries")
    cluster.ok("delete", "statefulset/postgres", "service/postgres", "secret/queries-db")


def test_two_hundred_calls_at_once_use_no_more_than_twenty_connections(cluster: Cluster, queries: str):
    outcomes = cluster.ask(urls=[queries], clients=200, calls=2, tool="query", arguments={"seconds": 0.02})
    failed = [o for o in outcomes if not o["ok"]]
    assert not failed, failed[:3]
    assert len(outcomes) == 400
    processes = {o["result"]["process"] for o in outcomes}
    assert 10 <= len(processes) <= 20, "each is a connection that the database saw"
    (busiest,) = cluster.ask(urls=[queries], calls=1, tool="busiest")
    assert 1 <= busiest["result"]["connections"] <= 20


def test_prepared_statements_work_across_transactions(cluster: Cluster, queries: str):
    outcomes = cluster.ask(urls=[queries], clients=30, calls=2, tool="prepared", arguments={"times": 5})
    assert [o["result"] for o in outcomes] == [{"total": 15}] * 60


def test_the_bound_is_a_condition(cluster: Cluster, queries: str):
    assert cluster.conditions("queries")["DatabasePooled"] == ("True", "ConnectionsBounded")


def test_a_database_that_restarts_costs_errors_only_while_it_is_down(cluster: Cluster, queries: str):
    asking = cluster.ask_meanwhile(
        urls=[queries], clients=4, seconds=25, tool="query", arguments={"seconds": 0.01}
    )
    uid = cluster.get("pod/postgres-0")["metadata"]["uid"]
    cluster.ok("delete", "pod", "postgres-0", "--grace-period=1")

    def back() -> Any:
        pod = cluster.get("pod/postgres-0")
        ready = pod and {c["type"]: c["status"] for c in pod["status"].get("conditions") or []}.get("Ready")
        return pod if ready == "True" and pod["metadata"]["uid"] != uid else None

    pod = until(back, "the database to be back", 60)
    started = pod["status"]["containerStatuses"][0]["state"]["running"]["startedAt"]
    outcomes = sorted(asking.result(120), key=lambda o: o["at"])
    failed = [o for o in outcomes if not o["ok"]]
    last = max((o["at"] + o["ms"] / 1000 for o in failed), default=0.0)
    assert outcomes[-1]["ok"], f"{started}: {outcomes[-1]}"
    assert outcomes[-1]["at"] - last > 3, "it works for a while at the end"
    assert len(outcomes) - len(failed) > 100
    statuses = cluster.pods("queries")[0]["status"]
    restarts = [
        s["restartCount"] for s in statuses["containerStatuses"] + statuses["initContainerStatuses"]
    ]
    assert not any(restarts)
    assert cluster.conditions("queries")["Ready"][0] == "True"


def test_the_password_is_nowhere_but_in_the_secret_and_the_pods_memory(cluster: Cluster, queries: str):
    for what in ("pod", "deployment", "configmap", "mcpserver", "event"):
        text = cluster.ok("get", what, "-n", "default", "-o", "json", "-l", "app!=postgres")
        assert "a-pass" not in text, what
    for container in ("mcpace", "server", "pgbouncer", "pgbouncer-config"):
        assert "a-pass" not in cluster.ok("logs", "deployment/queries", "-c", container)


def test_nobody_else_may_log_in_to_the_pool(cluster: Cluster, queries: str):
    address = cluster.pods("queries")[0]["status"]["podIP"]
    script = (
        "import socket, struct; s = socket.create_connection(('"
        + address
        + "', 6432), 5); s.settimeout(5);"
        "p = struct.pack('!I', 196608) + b'user\\0mcpace\\0database\\0mcpace\\0\\0';"
        "s.sendall(struct.pack('!I', len(p) + 4) + p); print(s.recv(4096))"
    )
    said = cluster.ok("exec", "client", "--", "/opt/weather/bin/python", "-c", script)
    assert said.startswith("b'E"), said


def test_a_missing_secret_is_named(cluster: Cluster, queries: str):
    cluster.apply("orphan", **SPEC | {"database": SPEC["database"] | {"secretRef": {"name": "nowhere"}}})
    until(
        lambda: cluster.conditions("orphan").get("Ready") == ("False", "ContainerNotStarted"),
        "it to be said",
        30,
    )
    (ready,) = [c for c in cluster.get("mcpserver/orphan")["status"]["conditions"] if c["type"] == "Ready"]
    assert 'secret "nowhere" not found' in ready["message"]
    cluster.ok("delete", "mcpserver", "orphan")
