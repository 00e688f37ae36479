"""The key that every password is derived from: made once, kept through everything, changed on purpose alone."""

from __future__ import annotations

import base64
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from tests.kit.helm import CHART, WITHOUT_CRD, Helm
from tests.kit.operator import Operator
from tests.kit.redis import RedisServer
from tests.kit.sidecars import Start
from tests.kit.upstream import RESULT, Scripted, json_answer
from tests.kit.waiting import until
from tools.cluster.kubectl import Kubectl

from mcpace_operator.masterkey import MasterKey
from mcpace_operator.resource.server import Key, Server
from mcpace_operator.settings import OperatorSettings
from mcpace_operator.stores.redis import Stores
from mcpace_sidecar.errors import ConfigError

SERVER = Server(Key("default", "weather"), "uid", 1, {}, {})
OLD, NEW = b"o" * 32, b"n" * 32
LIMITED = {"rateLimits": {"tiers": [{"name": "free", "requestsPerMinute": 5}]}}


def test_an_upgrade_from_a_chart_that_rendered_the_key_keeps_it_through_everything(
    helm: Helm, first: Path
) -> None:
    helm("install", "mcpace", str(first / "charts/mcpace"), WITHOUT_CRD)
    before = helm.data()
    assert before["masterKey"]
    steps = (
        ("upgrade", "mcpace", CHART, WITHOUT_CRD),
        ("upgrade", "mcpace", CHART, WITHOUT_CRD, "--set=operator.replicas=2"),
        ("rollback", "mcpace", "1"),
        ("upgrade", "mcpace", CHART, WITHOUT_CRD),
        ("uninstall", "mcpace"),
        ("install", "mcpace", CHART, WITHOUT_CRD),
        ("uninstall", "mcpace"),
    )
    for step in steps:
        helm(*step)
        assert helm.data()["masterKey"] == before["masterKey"], f"after helm {' '.join(step)}"
        assert helm.data()["redisPassword"] == before["redisPassword"]


async def test_the_operator_makes_the_key_once_and_no_release_ever_changes_it(
    helm: Helm, tmp_path: Path
) -> None:
    helm("install", "mcpace", CHART, WITHOUT_CRD)
    assert helm.secret() is None, "the chart draws nothing at random"
    variables = {
        "MCPACE_MASTER_KEY": "",
        "MCPACE_MASTER_KEY_SECRET": f"{helm.namespace}/mcpace",
        "MCPACE_NAMESPACES": helm.namespace,
    }
    operator = Operator(helm.api, tmp_path / "log", **variables)
    operator.start()
    try:
        await until(helm.secret, "the operator to make the Secret")
    finally:
        operator.stop()
    made = helm.secret()
    assert made is not None
    assert not made["metadata"].get("ownerReferences")
    assert made["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"
    assert "app.kubernetes.io/instance" not in made["metadata"]["labels"], "nothing prunes it by a label"
    assert len(base64.b64decode(made["data"]["current"])) >= 32
    assert base64.b64decode(made["data"]["current"]).decode() not in operator.log.read_text()
    for step in (
        ("upgrade", "mcpace", CHART, WITHOUT_CRD),
        ("uninstall", "mcpace"),
        ("install", "mcpace", CHART, WITHOUT_CRD),
    ):
        helm(*step)
        assert helm.data() == made["data"], f"after helm {' '.join(step)}"


async def test_an_operator_that_finds_a_key_it_was_not_given_ends_to_be_started_with_it(
    helm: Helm, tmp_path: Path
) -> None:
    helm.api.ok(
        "create", "secret", "generic", "mcpace", "-n", helm.namespace, f"--from-literal=current={'x' * 40}"
    )
    before = helm.data()
    variables = {"MCPACE_MASTER_KEY": "", "MCPACE_MASTER_KEY_SECRET": f"{helm.namespace}/mcpace"}
    operator = Operator(helm.api, tmp_path / "log", **variables)
    operator.start()
    await until(lambda: operator.ended() is not None, "the operator to end")
    assert "was made meanwhile" in operator.log.read_text()
    assert helm.data() == before


async def test_a_changed_key_gives_pods_a_new_environment_once_and_the_end_of_the_old_one_none(
    api: Kubectl, redis_server: RedisServer, tmp_path: Path
) -> None:
    def running(**keys: str) -> Operator:
        urls = {"MCPACE_LIMITS_URL": redis_server.url, "MCPACE_CACHE_URL": redis_server.url}
        operator = Operator(api, tmp_path / "log", **urls, **keys)
        operator.start()
        return operator

    def given() -> str:
        deployment = api.get("deployment/weather")
        template = deployment["spec"]["template"] if deployment else {"metadata": {"annotations": {}}}
        return str(template["metadata"]["annotations"].get("mcpace.dev/secret", ""))

    old, new = OLD.decode(), NEW.decode()
    operator = running(MCPACE_MASTER_KEY=old)
    try:
        api.apply("weather", image="weather:1", rateLimits={})
        before = await until(given, "the pods to be given a Secret")
        operator.stop()
        operator = running(MCPACE_MASTER_KEY=new, MCPACE_MASTER_KEY_PREVIOUS=old)
        await until(lambda: given() != before, "the pods to be given the new one")
        versions = await operator.settled(api)
        pods = api.get("deployment/weather")["spec"]["template"]
        operator.stop()
        operator = running(MCPACE_MASTER_KEY=new)
        user = "mcpace:default/weather"
        with redis_server.client() as client:
            await until(lambda: len(client.acl_getuser(user)["passwords"]) == 1, "the old password to go")
        now = await operator.settled(api)
        written = {name for name in versions if now[name] != versions[name]}
        assert written <= {"Secret/weather-mcpace", "Deployment/weather"}, written
        assert api.get("deployment/weather")["spec"]["template"] == pods, "no pod starts anew"
    finally:
        operator.stop()
        api.ok("delete", "mcpservers", "--all", "-A")
        await until(lambda: not api.items("deployments", "-A", "-l", "mcpace.dev/server"), "cleaning up")


async def stores_of(key: MasterKey, server: RedisServer) -> Stores:
    stores = Stores(OperatorSettings(limits_url=server.url, embedded=frozenset({"limits"}), master_key=key))
    await stores.check()
    assert stores.limits is not None
    assert stores.limits.up
    return stores


@pytest.fixture
def embedded(tmp_path: Path) -> Iterator[RedisServer]:
    """A Redis as the chart starts it, with a login made from the old key."""
    (tmp_path / "key").mkdir()
    (tmp_path / "key/current").write_bytes(OLD)
    (tmp_path / "key/redisPassword").write_text("drawn-at-random")
    made = subprocess.run(
        [sys.executable, "-m", "mcpace_cli", "login", "--store=limits", f"--key={tmp_path}/key", f"--users={tmp_path}/users.acl"],
        capture_output=True, text=True,
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    (tmp_path / "redis.conf").write_text(f"aclfile {tmp_path}/users.acl\n")
    server = RedisServer(tmp_path, config=tmp_path / "redis.conf", password="drawn-at-random")
    server.start()
    yield server
    server.stop()


def takes(server: RedisServer, user: str, password: str) -> bool:
    try:
        with redis.Redis(port=server.port, username=user, password=password) as client:
            return bool(client.ping())
    except redis.AuthenticationError:
        return False


async def test_no_password_stands_in_what_redis_reads(embedded: RedisServer, tmp_path: Path) -> None:
    key = MasterKey(OLD)
    text = (tmp_path / "users.acl").read_text()
    assert "drawn-at-random" not in text
    assert key.derive("redis-admin", "limits") not in text
    assert takes(embedded, "default", key.derive("redis-admin", "limits"))
    assert not takes(embedded, "default", key.derive("redis-admin", "cache"))
    assert takes(embedded, "default", "drawn-at-random"), "an operator before this one goes on"


async def test_a_changed_key_locks_no_server_out_while_the_old_one_is_known(
    embedded: RedisServer, scripted: Scripted, start: Start
) -> None:
    scripted.answer = lambda _: json_answer(RESULT)
    before = await stores_of(MasterKey(OLD, legacy="drawn-at-random"), embedded)
    old = (await before.credentials(SERVER)).limits_url
    await before.close()
    running = await start(scripted.port, LIMITED, name="default/weather", limits_url=old)
    assert "result" in (await running.call("t"))[2]

    both = await stores_of(MasterKey(NEW, OLD), embedded)
    new = (await both.credentials(SERVER)).limits_url
    await both.close()
    assert new != old
    late = await start(scripted.port, LIMITED, name="default/weather", limits_url=old)
    rolled = await start(scripted.port, LIMITED, name="default/weather", limits_url=new)
    for sidecar in (running, late, rolled):
        assert "result" in (await sidecar.call("t"))[2]
        assert sidecar.links[0].up
        assert (await sidecar.metrics())['mcpace_decided_without_redis_total{mode="local"}'] == 0

    after = await stores_of(MasterKey(NEW), embedded)
    await after.credentials(SERVER)
    await after.close()
    user, admin = "mcpace:default/weather", "default"
    assert takes(embedded, user, MasterKey(NEW).derive("redis", "uid"))
    assert takes(embedded, admin, MasterKey(NEW).derive("redis-admin", "limits"))
    assert not takes(embedded, user, MasterKey(OLD).derive("redis", "uid"))
    assert not takes(embedded, admin, MasterKey(OLD).derive("redis-admin", "limits"))
    assert not takes(embedded, admin, "drawn-at-random")
    assert "result" in (await running.call("t"))[2], "who is logged in stays so"
    assert running.links[0].up


async def test_a_key_that_redis_does_not_take_is_not_called_silence(
    embedded: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    stores = Stores(
        OperatorSettings(limits_url=embedded.url, embedded=frozenset({"limits"}), master_key=MasterKey(NEW))
    )
    await stores.check()
    assert stores.limits is not None
    assert not stores.limits.up
    assert "credential" in stores.limits.unusable
    assert "refuses us" in caplog.text
    await stores.close()


@pytest.mark.parametrize("name", ["MCPACE_MASTER_KEY", "MCPACE_MASTER_KEY_PREVIOUS"])
def test_a_short_key_is_refused(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv("MCPACE_MASTER_KEY", "x" * 32)
    monkeypatch.setenv(name, "short-one")
    with pytest.raises(ConfigError, match="32 characters or more") as refused:
        MasterKey.from_environment()
    assert "short-one" not in str(refused.value)
