"""A Redis Cluster of three real nodes: users on each, slots that move under load, and what a wrong URL is told."""

from __future__ import annotations

import asyncio
import itertools
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import redis
import trustme
from redis.crc import key_slot
from tests.kit.redis import RedisServer
from tests.kit.sidecars import Running, Start
from tests.kit.upstream import RESULT, Scripted, json_answer
from tests.kit.waiting import until
from tools.ports import free_port

from mcpace_operator.masterkey import MasterKey
from mcpace_operator.resource.server import Key, Server
from mcpace_operator.settings import OperatorSettings
from mcpace_operator.stores.redis import Stores

SLOTS = 16384
SERVER = Server(Key("default", "weather"), "uid", 1, {}, {})
SLOT = key_slot(b"mcpace:{default/weather}:here")
UP = 'mcpace_redis_up{store="limits"}'
ALONE = 'mcpace_decided_without_redis_total{mode="local"}'


def limited(per_minute: int, per_day: int) -> dict[str, Any]:
    tier = {"name": "free", "requestsPerMinute": per_minute, "requestsPerDay": per_day}
    return {"rateLimits": {"tiers": [tier]}}


class RedisCluster:
    """Nodes that share the slots; one more may join."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.nodes: list[RedisServer] = []

    def add(self, *arguments: str) -> RedisServer:
        folder = self._folder / f"node-{len(self.nodes)}"
        folder.mkdir()
        bus = str(free_port())
        node = RedisServer(
            folder, "--cluster-enabled", "yes", "--cluster-port", bus, "--cluster-node-timeout", "2000",
            *arguments,
        )  # fmt: skip
        node.start()
        self.nodes.append(node)
        if len(self.nodes) > 1:
            with node.client() as client:
                first = self.nodes[0]
                client.execute_command("CLUSTER", "MEET", "127.0.0.1", str(first.port), self._bus(first))
        return node

    def _bus(self, node: RedisServer) -> str:
        arguments = node._arguments
        return str(arguments[arguments.index("--cluster-port") + 1])

    async def start(self) -> None:
        for _ in range(3):
            self.add()
        for number, node in enumerate(self.nodes):
            first, last = SLOTS * number // 3, SLOTS * (number + 1) // 3 - 1
            with node.client() as client:
                client.execute_command("CLUSTER", "ADDSLOTSRANGE", first, last)
        await self.agreed()

    async def agreed(self) -> None:
        def ok() -> bool:
            for node in self.nodes:
                with node.client() as client:
                    info = client.cluster("INFO")
                    known = client.cluster("NODES").values()
                if info["cluster_state"] != "ok" or len(known) != len(self.nodes):
                    return False
                if any("handshake" in each["flags"] for each in known):
                    return False
            return True

        await until(ok, "the nodes to agree")

    @property
    def url(self) -> str:
        return f"redis+cluster://127.0.0.1:1,127.0.0.1:{self.nodes[0].port},127.0.0.1:{self.nodes[1].port}"

    def owner(self) -> RedisServer:
        for node in self.nodes:
            with node.client() as client:
                try:
                    client.get("mcpace:{default/weather}:here")
                except redis.exceptions.ResponseError:
                    continue
                return node
        raise AssertionError("nobody has the slot")

    def begin_handing_over(self, target: RedisServer) -> None:
        """Let the server's slot be on its way, and stay so: what its owner has not is the target's to answer."""
        source = self.owner()
        with source.client() as old, target.client() as new:
            new.execute_command("CLUSTER", "SETSLOT", SLOT, "IMPORTING", old.cluster("MYID").decode())
            old.execute_command("CLUSTER", "SETSLOT", SLOT, "MIGRATING", new.cluster("MYID").decode())

    async def hand_over(self, target: RedisServer) -> None:
        """Move the server's slot as `redis-cli --cluster reshard` does, key by key; calls go on meanwhile."""
        await asyncio.to_thread(self._hand_over, target)

    def _hand_over(self, target: RedisServer) -> None:
        pause = threading.Event()  # never set
        source = self.owner()
        self.begin_handing_over(target)
        with source.client() as old, target.client() as new:
            ours = new.cluster("MYID").decode()
            while keys := old.execute_command("CLUSTER", "GETKEYSINSLOT", SLOT, 1):
                old.execute_command("MIGRATE", "127.0.0.1", target.port, "", 0, 1000, "KEYS", *keys)
                pause.wait(0.002)
            for node in (new, old):
                node.execute_command("CLUSTER", "SETSLOT", SLOT, "NODE", ours)
        for node in self.nodes:
            with node.client() as client:
                client.execute_command("CLUSTER", "SETSLOT", SLOT, "NODE", ours)

    def stop(self) -> None:
        for node in self.nodes:
            node.stop()


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[RedisCluster]:
    cluster = RedisCluster(tmp_path)
    try:
        await cluster.start()
        yield cluster
    finally:
        cluster.stop()


@pytest.fixture
async def stores(cluster: RedisCluster) -> AsyncIterator[Stores]:
    settings = OperatorSettings(
        limits_url=cluster.url, cache_url=cluster.url, master_key=MasterKey(b"k" * 32)
    )
    stores = Stores(settings)
    await stores.check()
    yield stores
    await stores.close()


async def sidecars(
    stores: Stores, start: Start, scripted: Scripted, config: Any, **options: Any
) -> list[Running]:
    scripted.answer = lambda _: json_answer(RESULT)
    given = await stores.credentials(SERVER)
    urls = {"limits_url": given.limits_url, "cache_url": given.cache_url}
    return [await start(scripted.port, config, name="default/weather", **urls, **options) for _ in range(2)]


async def test_the_operator_makes_each_user_on_every_node_and_on_one_that_joins(
    cluster: RedisCluster, stores: Stores
) -> None:
    url = (await stores.credentials(SERVER)).limits_url or ""
    assert url.startswith("redis+cluster://mcpace%3Adefault%2Fweather:")

    def has_user(node: RedisServer) -> bool:
        with node.client() as client:
            return "mcpace:default/weather" in client.acl_users() and bool(client.function_list())

    assert all(map(has_user, cluster.nodes))
    late = cluster.add()
    await cluster.agreed()

    async def joined() -> bool:
        await stores.check()
        await stores.credentials(SERVER)
        return has_user(late)

    await until(joined, "the user on the node that joined")


async def test_limits_and_results_are_shared_in_a_cluster(
    cluster: RedisCluster, stores: Stores, start: Start, scripted: Scripted
) -> None:
    config = limited(600, 7) | {"cache": {"tools": [{"name": "cached", "ttl": "1m", "scope": "shared"}]}}
    one, other = await sidecars(stores, start, scripted, config)
    await one.call("cached")
    with cluster.owner().client() as client:
        await until(lambda: client.keys("mcpace:{default/weather}:result:*"), "the result in the cluster")
    await other.call("cached")
    assert (await other.metrics())['mcpace_cache_requests_total{result="redis",tool="cached"}'] == 1
    answered = [("result" in (await each.call("t"))[2]) for each in [one, other] * 6]
    assert sum(answered) == 5, "seven a day, two of which were made before"
    for each in (one, other):
        samples = await each.metrics()
        assert (samples[UP], samples[ALONE]) == (1, 0)


async def test_what_one_replica_purges_another_forgets_in_a_cluster(
    cluster: RedisCluster, stores: Stores, start: Start, scripted: Scripted
) -> None:
    config = {"cache": {"tools": [{"name": "cached", "ttl": "1m", "scope": "shared"}]}}
    one, other = await sidecars(stores, start, scripted, config)
    for each in (one, other):
        await each.call("cached")

    async def forgotten() -> bool:
        one.plane.results.purge([b"all"])
        await other.call("cached")
        return len(scripted.calls) > 1

    await until(forgotten, "the other to ask the server again")


@pytest.mark.parametrize("leasing", [False, True])
async def test_a_slot_that_moves_under_load_costs_no_call_and_no_exactness(
    cluster: RedisCluster, stores: Stores, start: Start, scripted: Scripted, leasing: bool
) -> None:
    limit = 400
    both = await sidecars(stores, start, scripted, limited(60_000, limit), leasing=leasing)
    moving = True
    outcomes: list[bool] = []

    async def keep_calling(sidecar: Running) -> None:
        while moving or len(outcomes) < limit + 50:
            _, _, body = await sidecar.call("t")
            assert "result" in body or body["error"]["code"] == 42900, body
            outcomes.append("result" in body)

    calling = [asyncio.create_task(keep_calling(sidecar)) for sidecar in both * 2]
    await until(lambda: len(outcomes) > 20, "calls to flow")
    owner = cluster.owner()
    others = [node for node in cluster.nodes if node is not owner]
    for target in (*others, owner, others[0]):
        await cluster.hand_over(target)
    moving = False
    await asyncio.gather(*calling)
    for each in both:
        samples = await each.metrics()
        assert (samples[UP], samples[ALONE]) == (1, 0)
    leased = 50 * len(both) if leasing else 0  # may be held by one while the other is refused
    assert limit - leased <= sum(outcomes) <= limit, f"{sum(outcomes)} of {limit} a day"
    there = ("127.0.0.1", others[0].port)  # who is refused from memory asks again within five seconds
    for each in both:
        await until(lambda at=each: at.links[0].place == there, "the link to follow the slot")


async def test_a_slot_that_stays_on_its_way_is_counted_where_it_goes(
    cluster: RedisCluster, stores: Stores, start: Start, scripted: Scripted
) -> None:
    tiers = [
        {"name": "free", "requestsPerMinute": 1}
    ]  # one key: several that are not there wait for the end
    (one, _) = await sidecars(stores, start, scripted, {"rateLimits": {"tiers": tiers}})
    owner = cluster.owner()
    target = next(node for node in cluster.nodes if node is not owner)
    cluster.begin_handing_over(target)
    answered = ["result" in (await one.call("t"))[2] for _ in range(3)]
    assert answered == [True, False, False]
    samples = await one.metrics()
    assert (samples[UP], samples[ALONE]) == (1, 0)
    with target.client() as client:
        assert client.execute_command("CLUSTER", "COUNTKEYSINSLOT", SLOT)


async def test_nodes_whose_certificates_bear_names_are_asked_by_these(
    tmp_path: Path, start: Start, scripted: Scripted
) -> None:
    ca = trustme.CA()
    certificate = ca.issue_cert("localhost")
    certificate.private_key_pem.write_to_path(tmp_path / "key.pem")
    certificate.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
    ca.cert_pem.write_to_path(tmp_path / "ca.pem")
    port = free_port()
    cluster = RedisCluster(tmp_path)
    try:
        node = cluster.add(
            "--tls-port", str(port), "--tls-cluster", "yes", "--tls-auth-clients", "no",
            "--tls-cert-file", str(tmp_path / "cert.pem"), "--tls-key-file", str(tmp_path / "key.pem"),
            "--tls-ca-cert-file", str(tmp_path / "ca.pem"), "--cluster-announce-ip", "127.0.0.1",
            "--cluster-announce-hostname", "localhost", "--cluster-preferred-endpoint-type", "hostname",
        )  # fmt: skip
        with node.client() as client:
            client.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, SLOTS - 1)
        await cluster.agreed()
        settings = OperatorSettings(
            limits_url=f"rediss+cluster://localhost:{port}", redis_authority=ca.cert_pem.bytes().decode(),
            master_key=MasterKey(b"k" * 32),
        )  # fmt: skip
        stores = Stores(settings)
        await stores.check()
        assert stores.state(stores.limits, SERVER.key).up
        scripted.answer = lambda _: json_answer(RESULT)
        given = await stores.credentials(SERVER)
        sidecar = await start(
            scripted.port, limited(600, 7), name="default/weather", limits_url=given.limits_url,
            redis_authority=settings.redis_authority,
        )  # fmt: skip
        assert "result" in (await sidecar.call("t"))[2]
        samples = await sidecar.metrics()
        assert (samples[UP], samples[ALONE]) == (1, 0)
        await stores.close()
    finally:
        cluster.stop()


async def test_a_node_that_dies_is_left_alone_until_its_slots_are_somewhere(
    cluster: RedisCluster, stores: Stores, start: Start, scripted: Scripted
) -> None:
    (one, _) = await sidecars(stores, start, scripted, limited(600, 100))
    owner = cluster.owner()
    (target, _) = [node for node in cluster.nodes if node is not owner]
    owner.stop()
    assert "result" in (await one.call("t"))[2]
    assert (await one.metrics())[UP] == 0
    with target.client() as client:
        client.execute_command("CLUSTER", "SETSLOT", SLOT, "NODE", client.cluster("MYID").decode())
    for node in cluster.nodes:
        if node is not owner:
            with node.client() as client, target.client() as new:
                client.config_set("cluster-require-full-coverage", "no")
                client.execute_command("CLUSTER", "SETSLOT", SLOT, "NODE", new.cluster("MYID").decode())
    await until(lambda: one.links[0].up, "the sidecar to find the slot's new node")
    assert one.links[0].place == ("127.0.0.1", target.port)


async def test_a_cluster_that_is_down_is_asked_again_over_the_same_connections(
    tmp_path: Path, start: Start, scripted: Scripted
) -> None:
    cluster = RedisCluster(tmp_path)
    node = cluster.add()  # nobody has the slots
    url = f"redis+cluster://127.0.0.1:{node.port}"
    try:
        sidecar = await start(scripted.port, limited(600, 10), limits_url=url, cache_url=url)
        limits, cache = sidecar.links
        await until(lambda: min(limits.failures, cache.failures) > 4, "both to be tried again")
        with node.client() as client:
            await until(
                lambda: [c["addr"] for c in client.client_list() if c["sub"] == "1"],
                "purges to be heard at the node that is named",
            )
            assert len(client.client_list()) == 4, "two links, whoever hears purges, and this test"
        assert not limits.up
    finally:
        cluster.stop()


async def test_a_plain_url_that_leads_to_a_node_of_a_cluster_is_told_what_to_write(
    cluster: RedisCluster, start: Start, scripted: Scripted, caplog: pytest.LogCaptureFixture
) -> None:
    scripted.answer = lambda _: json_answer(RESULT)
    for node, database in itertools.product(cluster.nodes[:2], (0, 3)):
        url = node.url.removesuffix("0") + str(database)
        sidecar = await start(scripted.port, limited(600, 10), name="default/weather", limits_url=url)
        assert "result" in (await sidecar.call("t"))[2]
        assert (await sidecar.metrics())[UP] == 0
    words = "this is a node of a Redis Cluster: write redis+cluster://"
    assert words in caplog.text
    stores = Stores(OperatorSettings(limits_url=cluster.nodes[0].url, master_key=MasterKey(b"k" * 32)))
    await stores.check()
    assert words in stores.state(stores.limits, SERVER.key).unusable
    await stores.close()


async def test_a_read_only_replica_is_named_once_and_never_taken(
    redis_server: RedisServer, tmp_path: Path, start: Start, scripted: Scripted,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    (tmp_path / "replica").mkdir()
    replica = RedisServer(tmp_path / "replica", "--replicaof", "127.0.0.1", str(redis_server.port))
    replica.start()
    try:
        scripted.answer = lambda _: json_answer(RESULT)
        sidecar = await start(scripted.port, limited(600, 10), limits_url=replica.url)
        failed = 'mcpace_redis_failures_total{store="limits"}'
        before = (await sidecar.metrics())[failed]

        async def tried_again() -> bool:
            await sidecar.call("t")
            assert (await sidecar.metrics())[UP] == 0, "it does not flap"
            return (await sidecar.metrics())[failed] >= before + 2

        await until(tried_again, "it to be tried again")
        assert caplog.text.count("this is a read-only replica: name its master") == 1
        stores = Stores(OperatorSettings(limits_url=replica.url, master_key=MasterKey(b"k" * 32)))
        await stores.check()
        assert "read-only replica" in stores.state(stores.limits, SERVER.key).unusable
        await stores.close()
        with replica.client() as client:
            client.execute_command("REPLICAOF", "NO", "ONE")
        await until(lambda: sidecar.links[0].up, "it to be taken as the master")
    finally:
        replica.stop()


async def test_a_redis_that_is_no_cluster_is_told_apart_too(
    redis_server: RedisServer, start: Start, scripted: Scripted, caplog: pytest.LogCaptureFixture
) -> None:
    url = redis_server.url.replace("redis://", "redis+cluster://").removesuffix("/0")
    sidecar = await start(scripted.port, limited(600, 10), limits_url=url)
    assert (await sidecar.metrics())[UP] == 0
    assert "this is no node of a Redis Cluster: write redis://" in caplog.text
    stores = Stores(OperatorSettings(limits_url=url, master_key=MasterKey(b"k" * 32)))
    await stores.check()
    assert "no node of a Redis Cluster" in stores.state(stores.limits, SERVER.key).unusable
    await stores.close()
