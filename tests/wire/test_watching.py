"""What can be looked at: the access log, metrics of the sidecar itself, and what can be purged."""

import json

import msgspec
import pytest
from tests.kit.sidecars import Start
from tests.kit.upstream import RESULT, Heard, Scripted, json_answer


async def test_the_access_log_says_who_called_what_and_never_arguments_or_credentials(
    scripted: Scripted, start: Start, capsys: pytest.CaptureFixture[str]
) -> None:
    scripted.answer = lambda _: json_answer(RESULT)
    cache = {"tools": [{"name": "t", "ttl": "1m", "scope": "shared"}]}
    sidecar = await start(scripted.port, {"monitoring": {"accessLog": True}, "cache": cache})
    for _ in range(2):
        await sidecar.call(
            "t", {"city": "s3cret-city"}, Authorization="Bearer s3cret", traceparent="00-ab-cd-01"
        )
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(line["tool"], line["status"], line["cache"]) for line in lines] == [
        ("t", "success", "miss"),
        ("t", "success", "memory"),
    ]
    assert lines[0]["client"] == "addr:127.0.0.1"
    assert lines[0]["traceparent"] == "00-ab-cd-01"
    assert lines[0]["responseBytes"] == len(RESULT)
    assert "s3cret" not in json.dumps(lines)


@pytest.mark.parametrize(("limits", "tier"), [({"rateLimits": {}}, "free"), ({}, None)])
async def test_the_access_log_names_the_tier_that_a_call_was_limited_by(
    scripted: Scripted,
    start: Start,
    capsys: pytest.CaptureFixture[str],
    limits: dict[str, object],
    tier: str | None,
) -> None:
    sidecar = await start(scripted.port, {"monitoring": {"accessLog": True}, **limits})
    await sidecar.call("t")
    assert json.loads(capsys.readouterr().out)["tier"] == tier


async def test_there_is_no_access_log_unless_it_is_asked_for(
    scripted: Scripted, start: Start, capsys: pytest.CaptureFixture[str]
) -> None:
    sidecar = await start(scripted.port)
    await sidecar.call("t")
    assert capsys.readouterr().out == ""


async def test_metrics_tell_of_the_sidecar_itself(scripted: Scripted, start: Start) -> None:
    sidecar = await start(scripted.port)
    samples = await sidecar.metrics()
    assert samples["process_resident_memory_bytes"] > 1_000_000
    assert samples["process_cpu_seconds_total"] > 0
    assert samples["mcpace_event_loop_lag_seconds"] >= 0


@pytest.mark.parametrize("what", [{"tool": "t"}, {"client": "addr:127.0.0.1"}, {"all": True}])
async def test_what_is_kept_can_be_purged_with_the_admin_token(
    scripted: Scripted, start: Start, what: dict[str, object]
) -> None:
    scripted.answer = lambda _: json_answer(RESULT)
    cache = {"tools": [{"name": "t", "ttl": "1h"}]}
    sidecar = await start(scripted.port, {"cache": cache}, admin_token="t0ken")

    async def purge(body: bytes, token: str = "t0ken") -> bytes:
        return await sidecar.raw(
            b"POST /purge HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer %b\r\nContent-Length: %d\r\n\r\n%b"
            % (token.encode(), len(body), body),
            port=sidecar.admin,
        )

    for _ in range(2):
        await sidecar.call("t", Authorization="Bearer a")
    assert len(scripted.calls) == 1
    assert (await purge(b"{}", "wrong")).startswith(b"HTTP/1.1 401")
    for bad in (b"{}", b'{"tol":"t"}', b"x"):
        assert (await purge(bad)).startswith(b"HTTP/1.1 400")
    await sidecar.call("t", Authorization="Bearer a")
    assert len(scripted.calls) == 1
    assert (await purge(msgspec.json.encode(what))).startswith(b"HTTP/1.1 200")
    await sidecar.call("t", Authorization="Bearer a")
    assert len(scripted.calls) == 2


async def test_a_server_that_speaks_to_its_own_clients_alone_is_ready_and_its_tools_are_overheard(
    scripted: Scripted, start: Start
) -> None:
    def guarded(heard: Heard) -> bytes:
        if heard.headers.get(b"authorization") != b"Bearer own":
            return json_answer(b"{}", b"401 Unauthorized", b"WWW-Authenticate: Bearer\r\n")
        if b"tools/list" in heard.body:
            return json_answer(b'{"jsonrpc":"2.0","id":1,"result":{"tools":[{"name":"guarded"}]}}')
        return json_answer(RESULT)

    scripted.answer = guarded
    sidecar = await start(scripted.port)
    await sidecar.ready()
    await sidecar.post({"jsonrpc": "2.0", "id": 1, "method": "tools/list"}, Authorization="Bearer own")
    await sidecar.call("guarded", Authorization="Bearer own")
    assert (await sidecar.metrics())['mcp_tool_calls_total{status="success",tool="guarded"}'] == 1
