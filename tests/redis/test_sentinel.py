"""A Redis that is yours: behind Sentinels, over TLS."""

import asyncio
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
import trustme
from tests.kit.redis import RedisServer
from tests.kit.sidecars import Start
from tests.kit.upstream import RESULT, Scripted, json_answer
from tests.kit.waiting import DEADLINE, until
from tools.ports import free_port

from mcpace_operator.masterkey import MasterKey
from mcpace_operator.resource.server import Key, Server
from mcpace_operator.settings import OperatorSettings
from mcpace_operator.stores.redis import Store, Stores
from mcpace_sidecar.contract.addresses import RedisAddress
from mcpace_sidecar.errors import StoreError

LIMITED = {"rateLimits": {"tiers": [{"name": "free", "requestsPerMinute": 1, "requestsPerDay": 2}]}}
PASSWORD = "a-password"


class Sentinels:
    """A master, a replica of it, and one Sentinel that makes the replica the master when the first is gone."""

    def __init__(self, folder: Path) -> None:
        protected = ("--requirepass", PASSWORD, "--masterauth", PASSWORD)
        for name in ("master", "replica", "sentinel"):
            (folder / name).mkdir()
        self.master = RedisServer(folder / "master", *protected)
        self.replica = RedisServer(
            folder / "replica", *protected, "--replicaof", "127.0.0.1", str(self.master.port)
        )
        self.port = free_port()
        self.url = f"redis+sentinel://:{PASSWORD}@127.0.0.1:1,127.0.0.1:{self.port}/main/0"
        self._folder = folder / "sentinel"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        for server in (self.master, self.replica):
            server.url = server.url.replace("//", f"//:{PASSWORD}@")
            server.start()
        file = self._folder / "sentinel.conf"
        file.write_text(
            f"port {self.port}\nbind 127.0.0.1\ndir {self._folder}\n"
            f"sentinel monitor main 127.0.0.1 {self.master.port} 1\nsentinel auth-pass main {PASSWORD}\n"
            "sentinel down-after-milliseconds main 500\nsentinel failover-timeout main 3000\n"
        )
        program = shutil.which("redis-server")
        assert program
        self._process = subprocess.Popen([program, file, "--sentinel"], stdout=subprocess.DEVNULL)

    async def ready(self) -> None:
        """Wait until the Sentinel knows the replica: before, it has nobody to promote."""

        def knows() -> bool:
            try:
                with redis.Redis(port=self.port) as client:
                    return bool(client.sentinel_slaves("main"))  # type: ignore[no-untyped-call]
            except redis.ConnectionError:
                return False

        await until(knows, "the Sentinel to know the replica")
        with self.replica.client() as client:
            await until(
                lambda: client.info("replication")["master_link_status"] == "up", "the replica to follow"
            )

    def is_promoted(self) -> bool:
        """Whether the replica is the master now."""
        try:
            with self.replica.client() as client:
                return bool(client.info("replication")["role"] == "master")
        except redis.ConnectionError:  # a Sentinel ends the connections of whom it promotes
            return False

    async def fail_over(self) -> None:
        """Kill the master; return when the replica is it."""
        self.master.stop()
        await until(self.is_promoted, "the replica to be promoted")

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        self.replica.stop()
        self.master.stop()


@pytest.fixture
def sentinels(tmp_path: Path) -> Iterator[Sentinels]:
    sentinels = Sentinels(tmp_path)
    try:
        sentinels.start()
        yield sentinels
    finally:
        sentinels.stop()


async def test_sentinels_that_name_no_master_are_told_in_a_few_words(sentinels: Sentinels) -> None:
    await sentinels.ready()
    address = RedisAddress(sentinels.url.replace("/main/", "/other/"), None)
    with pytest.raises(StoreError) as failed:
        await address.find()
    words = str(failed.value)
    assert words.startswith("no Sentinel names a master other (127.0.0.1:1: Error 111 connecting to"), words
    assert words.endswith(f"; 127.0.0.1:{sentinels.port} knows none of that name that is up)"), words
    assert len(words) < 300
    with pytest.raises(redis.ConnectionError) as refused:
        await address.client().ping()
    assert str(refused.value) == words
    await address.close()


async def test_limits_hold_over_a_failover(scripted: Scripted, start: Start, sentinels: Sentinels) -> None:
    await sentinels.ready()
    scripted.answer = lambda _: json_answer(RESULT)
    one, other = [await start(scripted.port, LIMITED, limits_url=sentinels.url) for _ in range(2)]
    assert "result" in (await one.call("t"))[2]
    assert (await other.call("t"))[2]["error"]["code"] == 42900
    with sentinels.replica.client() as client:
        await until(lambda: client.keys("*:day:*"), "the day's count to be replicated")
    await sentinels.fail_over()
    up = 'mcpace_redis_up{store="limits"}'
    for sidecar in (one, other):
        await until(lambda s=sidecar: s.links[0].up, "the sidecar to find the new master")
        assert (await sidecar.metrics())[up] == 1
    with sentinels.replica.client() as client:
        (key,) = client.keys("*:day:*")
        assert client.get(key) == b"1", "what was counted before is known"
        client.set(key, 2)
    _, _, body = await one.call("t")
    assert body["error"]["data"]["limit"] in ("day", "minute")


async def test_a_master_that_became_a_replica_is_left(
    scripted: Scripted, start: Start, sentinels: Sentinels
) -> None:
    await sentinels.ready()
    scripted.answer = lambda _: json_answer(RESULT)
    config = {"rateLimits": {"tiers": [{"name": "free", "requestsPerMinute": 1000}]}}
    sidecar = await start(scripted.port, config, limits_url=sentinels.url, leasing=False)
    with redis.Redis(port=sentinels.port) as client:
        client.execute_command("SENTINEL", "FAILOVER", "main")
    await until(sentinels.is_promoted, "the replica to be promoted")

    async def counted_by_the_new_master() -> bool:
        await sidecar.call("t")
        with sentinels.replica.client() as client:
            return bool(client.keys("*:minute:*"))

    await until(counted_by_the_new_master, "calls to be counted by the new master")


async def test_the_operator_makes_its_users_again_on_the_new_master(sentinels: Sentinels) -> None:
    await sentinels.ready()
    server = Server(Key("default", "weather"), "uid", 1, {}, {})
    stores = Stores(OperatorSettings(limits_url=sentinels.url, master_key=MasterKey(b"k" * 32)))
    assert stores.limits is not None
    await stores.check()
    url = (await stores.credentials(server)).limits_url or ""
    assert url.startswith("redis+sentinel://mcpace%3Adefault%2Fweather:")
    assert url.endswith(f"@127.0.0.1:1,127.0.0.1:{sentinels.port}/main/0")
    await sentinels.fail_over()

    async def made_again() -> bool:
        assert stores.limits is not None
        await stores.limits.check()
        await stores.credentials(server)
        with sentinels.replica.client() as client:
            return "mcpace:default/weather" in client.acl_users()

    await until(made_again, "the user on the new master")
    await stores.close()


async def test_tls_is_verified_by_the_authority_that_is_given(
    scripted: Scripted, start: Start, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    ca = trustme.CA()
    certificate = ca.issue_cert("127.0.0.1")
    certificate.private_key_pem.write_to_path(tmp_path / "key.pem")
    certificate.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
    ca.cert_pem.write_to_path(tmp_path / "ca.pem")
    port = free_port()
    server = RedisServer(
        tmp_path, "--tls-port", str(port), "--tls-cert-file", str(tmp_path / "cert.pem"),
        "--tls-key-file", str(tmp_path / "key.pem"), "--tls-ca-cert-file", str(tmp_path / "ca.pem"),
        "--tls-auth-clients", "no",
    )  # fmt: skip
    server.start()
    try:
        scripted.answer = lambda _: json_answer(RESULT)
        url = f"rediss://127.0.0.1:{port}/0"
        trusting = await start(
            scripted.port, LIMITED, limits_url=url, redis_authority=ca.cert_pem.bytes().decode()
        )
        assert "result" in (await trusting.call("t"))[2]
        with server.client() as client:
            assert client.keys("*:day:*"), "counted over TLS"
        doubting = await start(scripted.port, LIMITED, limits_url=url)
        assert not doubting.links[0].up
        assert "certificate verify failed" in caplog.text
        pong = RedisAddress(url, ca.cert_pem.bytes().decode()).client()
        assert await pong.ping()
        await pong.aclose()
    finally:
        server.stop()


async def test_what_is_told_to_end_ends_also_in_the_midst_of_a_question(redis_server: RedisServer) -> None:
    """redis-py makes a lost connection of a cancellation, and whoever asks again would go on for ever."""
    stores = Stores(OperatorSettings(limits_url=redis_server.url, master_key=MasterKey(b"k" * 32)))
    assert stores.limits is not None
    await stores.check()
    for number in range(40):
        asking = asyncio.create_task(ask_for_ever(stores.limits))
        await asyncio.sleep(number * 0.0002)
        asking.cancel()
        _, left = await asyncio.wait([asking], timeout=DEADLINE)
        assert not left, f"it goes on, told to end after {number * 0.2:.1f} ms"
    await stores.close()


async def ask_for_ever(store: Store) -> None:
    while True:
        await store.check()
