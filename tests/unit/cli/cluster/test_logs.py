"""The logs of many containers over few connections."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator
from pathlib import Path

import pytest
from tests.kit.upstream import Scripted

from mcpace_cli.cluster import access
from mcpace_cli.cluster.access import Access, Where
from mcpace_cli.cluster.logs import Asked, print_all
from mcpace_operator.cluster.client import CONNECTIONS, Cluster
from mcpace_operator.resource.server import Key

KEY = Key("default", "weather")
MANY = [(f"weather-{number:03}", "server") for number in range(3 * CONNECTIONS)]


class Says(Access):
    """Pods that print one line each."""

    def __init__(self, line: bytes = b"a line") -> None:
        self.now = self.most = 0
        self._line = line

    async def log(
        self, key: Key, pod: str, container: str, *, tail: int, follow: bool = False
    ) -> AsyncGenerator[bytes, None]:
        del key, pod, container, tail, follow
        self.now += 1
        self.most = max(self.most, self.now)
        await asyncio.sleep(0)
        yield self._line
        self.now -= 1


def asked(*, follow: bool = False) -> Asked:
    return Asked(Where(), "weather", (), tail=5, follow=follow)


async def test_all_logs_are_printed_and_none_waits_for_a_connection(capsys: pytest.CaptureFixture[str]):
    pods = Says()
    assert await print_all(pods, KEY, MANY, asked()) == 0
    out, err = capsys.readouterr()
    assert sorted(out.splitlines()) == [f"{pod}/{container} | a line" for pod, container in MANY]
    assert (pods.most, err) == (CONNECTIONS, "")


async def test_of_logs_that_are_followed_it_is_said_which_are_not(capsys: pytest.CaptureFixture[str]):
    assert await print_all(Says(), KEY, MANY, asked(follow=True)) == 0
    out, err = capsys.readouterr()
    assert len(out.splitlines()) == CONNECTIONS
    assert err.startswith(f"Of {len(MANY)} logs the first {CONNECTIONS} are followed; -c NAME chooses")


async def test_colours_are_left_out_and_what_else_a_terminal_obeys_is_spelled(
    capsys: pytest.CaptureFixture[str],
):
    line = b"\x1b[32mINFO\x1b[0m ready\x1b[2J\r"
    assert await print_all(Says(line), KEY, MANY[:1], asked()) == 0
    assert capsys.readouterr().out == "weather-000/server | INFO ready\\u001b[2J\n"


async def test_a_long_log_is_read_to_its_end_however_long_that_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    async def line_by_line() -> AsyncIterator[bytes]:
        yield b"HTTP/1.1 200 OK\r\nContent-Length: 84\r\n\r\n"
        for _ in range(12):
            await asyncio.sleep(0.2)
            yield b"a line\n"

    monkeypatch.setattr(access, "TIMEOUT", 2.0)
    api = Scripted()
    api.answer = lambda _: line_by_line()
    await api.start()
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text(
        json.dumps(
            {
                "current-context": "a",
                "contexts": [{"name": "a", "context": {"cluster": "a", "user": "a"}}],
                "clusters": [{"name": "a", "cluster": {"server": f"http://127.0.0.1:{api.port}"}}],
                "users": [{"name": "a", "user": {"token": "t"}}],
            }
        )
    )
    cluster = await Cluster.connect(str(kubeconfig))
    try:
        log = Access(cluster, "default").log(KEY, "weather-1", "server", tail=12)
        assert [line async for line in log] == [b"a line"] * 12
    finally:
        await cluster.close()
        await api.stop()
