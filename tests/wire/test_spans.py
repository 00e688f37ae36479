"""Traces: continued in headers and in `_meta`, exported by OTLP as a collector receives them."""

import asyncio

import pytest
from tests.kit.collector import Collector
from tests.kit.sidecars import Start
from tests.kit.upstream import Heard, Scripted, json_answer
from tests.kit.waiting import until

from mcpace_sidecar.contract.config.traffic import Traces
from mcpace_sidecar.telemetry.spans import Spans

PARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
UNSAMPLED = PARENT[:-1] + "0"
RESULT = b'{"jsonrpc":"2.0","id":1,"result":{"content":[]}}'


def parent_of(heard: Heard) -> str:
    return heard.headers[b"traceparent"].decode()


async def test_a_call_is_a_span_between_its_callers_and_its_servers(
    scripted: Scripted, start: Start, collector: Collector, traces
) -> None:
    scripted.answer = lambda _: json_answer(RESULT)
    sidecar = await start(scripted.port, traces, name="shop/weather")
    await sidecar.call("t", traceparent=PARENT, tracestate="a=b")
    await until(lambda: collector.spans, "a span at the collector")
    ((about, span),) = collector.spans
    assert (about["service.name"], about["service.namespace"]) == ("weather", "shop")
    assert span.name == "tools/call other"
    assert (span.trace_id.hex(), span.parent_span_id.hex()) == tuple(PARENT.split("-")[1:3])
    (call,) = scripted.calls
    assert parent_of(call) == f"00-{span.trace_id.hex()}-{span.span_id.hex()}-01"
    assert call.headers[b"tracestate"] == b"a=b"
    assert span.end_time_unix_nano > span.start_time_unix_nano


async def test_a_trace_in_meta_is_continued_there_and_in_the_header(
    scripted: Scripted, start: Start, collector: Collector, traces
) -> None:
    scripted.answer = lambda _: json_answer(RESULT)
    sidecar = await start(scripted.port, traces)
    params = {"name": "t", "arguments": {}, "_meta": {"traceparent": PARENT}}
    await sidecar.post({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params})
    await until(lambda: collector.spans, "a span at the collector")
    ((_, span),) = collector.spans
    assert span.parent_span_id.hex() == PARENT.split("-")[2]
    (call,) = scripted.calls
    own = f"00-{span.trace_id.hex()}-{span.span_id.hex()}-01"
    assert call.message["params"]["_meta"]["traceparent"] == own
    assert parent_of(call) == own


async def test_the_calls_of_parallel_are_children_of_its_span(
    scripted: Scripted, start: Start, collector: Collector, traces
) -> None:
    scripted.answer = lambda _: json_answer(RESULT)
    sidecar = await start(scripted.port, traces | {"concurrency": {"parallelTool": True}})
    await sidecar.call("parallel", {"calls": [{"tool": "a"}, {"tool": "b"}]}, traceparent=PARENT)
    await until(lambda: len(collector.spans) == 3, "three spans at the collector")
    spans = [span for _, span in collector.spans]
    (whole,) = (s for s in spans if s.parent_span_id.hex() == PARENT.split("-")[2])
    assert sum(s.parent_span_id == whole.span_id for s in spans) == 2


async def test_what_its_caller_does_not_sample_is_continued_and_not_exported(
    scripted: Scripted, start: Start, collector: Collector, traces
) -> None:
    scripted.answer = lambda _: json_answer(RESULT)
    sidecar = await start(scripted.port, traces)
    await sidecar.call("t", traceparent=UNSAMPLED)
    await sidecar.call("t", traceparent=PARENT)
    await until(lambda: collector.spans, "a span at the collector")
    assert len(collector.spans) == 1
    assert parent_of(scripted.calls[0]).endswith("-00")


async def test_a_failed_call_is_a_span_of_an_error_without_arguments_or_credentials(
    scripted: Scripted, start: Start, collector: Collector, traces
) -> None:
    scripted.answer = lambda _: json_answer(b'{"jsonrpc":"2.0","id":1,"result":{"isError":true}}')
    sidecar = await start(scripted.port, traces)
    await sidecar.call("t", {"secret": "hush"}, Authorization="Bearer hush")
    await until(lambda: collector.spans, "a span at the collector")
    ((_, span),) = collector.spans
    assert span.status.code == span.status.STATUS_CODE_ERROR
    assert "error" in {a.value.string_value for a in span.attributes if a.key == "error.type"}
    assert not any(b"hush" in heard.body for heard in collector.heard)


async def test_the_last_spans_are_exported_when_the_sidecar_ends_or_stops_tracing(
    scripted: Scripted, start: Start, collector: Collector, traces, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "60000")
    scripted.answer = lambda _: json_answer(RESULT)
    one, other = await start(scripted.port, dict(traces)), await start(scripted.port, traces)
    await one.call("t", traceparent=PARENT)
    one.config.clear()
    one.reload()
    await until(lambda: len(collector.spans) == 1, "the span of the one that stops tracing")
    await one.call("t")
    await other.call("t", traceparent=PARENT)
    other.end()
    await other.waiting
    await until(lambda: len(collector.spans) == 2, "the span of the one that ends")


async def test_new_traces_are_sampled_as_configured() -> None:
    spans = Spans(Traces(endpoint="http://127.0.0.1:9", sample_ratio=0.25), "a/b")
    began = [spans.begin(b"") for _ in range(2000)]
    sampled = sum(parent.endswith(b"-01") for parent in began)
    assert 350 < sampled < 650
    assert len(set(began)) == 2000
    for odd in (b"nonsense", b"00-" + b"0" * 32 + b"-" + b"1" * 16 + b"-01", PARENT.encode() + b"-x"):
        assert spans.begin(odd)[3:35] != odd[3:35]
    await asyncio.to_thread(spans.close)
