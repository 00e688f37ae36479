"""OpenTelemetry spans of tool calls, made of the record of each call when it has ended.

On a call's way only its place in the trace is worked out: the span's id goes on to the server as the
parent of what that does. The SDK is imported where traces are configured, and exports in a thread.
Sources: W3C Trace Context; OpenTelemetry's semantic conventions for MCP.
"""

from __future__ import annotations

import os
import random
import re
import time
from typing import Final

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import SpanContext, SpanKind, TraceFlags, TraceState
from opentelemetry.trace.status import Status, StatusCode

from mcpace_sidecar import __version__
from mcpace_sidecar.contract.config.traffic import Traces
from mcpace_sidecar.mcp.methods import TOOLS_CALL
from mcpace_sidecar.telemetry.events import CallEnded

EXPORT_TIMEOUT: Final = 4.0
"""Seconds that one export may take, tries again included: the sidecar's end waits for the last one."""
_PARENT: Final = re.compile(rb"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")
_SAMPLED: Final = 1
_FAILED: Final = frozenset({"error", "failed", "limited", "shed"})


class Spans:
    """Continues traces, begins those that nobody began, and exports the spans that are sampled."""

    def __init__(self, config: Traces, name: str) -> None:
        """`name` is the server's, `namespace/name`."""
        self.config = config
        namespace, _, service = name.rpartition("/")
        about = {"service.name": service, "service.namespace": namespace, "service.version": __version__}
        self._resource = Resource.create({key: value for key, value in about.items() if value})
        exporter = OTLPSpanExporter(f"{config.endpoint.rstrip('/')}/v1/traces", timeout=EXPORT_TIMEOUT)
        self._exporting = BatchSpanProcessor(exporter)
        self._random = random.Random(os.urandom(16))  # noqa: S311 - because ids of spans guard nothing

    def begin(self, parent: bytes) -> bytes:
        """The `traceparent` of a call's own span. `parent`: the one that it came with, or nothing.

        A trace that was begun keeps its sampling; of new ones `sampleRatio` are sampled.
        """
        span = b"%016x" % self._random.getrandbits(64)
        if _PARENT.fullmatch(parent):
            return parent[:36] + span + parent[52:]
        sampled = self._random.random() < self.config.sample_ratio
        return b"00-%032x-%b-%02x" % (self._random.getrandbits(128), span, sampled)

    def on_call(self, call: CallEnded) -> None:
        """Export the span of an ended call, if it is sampled."""
        if not call.span or not int(call.span[53:55], 16) & _SAMPLED:
            return
        continued = call.trace[3:35] == call.span[3:35]
        attributes = {
            "mcp.method.name": TOOLS_CALL,
            "gen_ai.operation.name": "execute_tool",
            "gen_ai.tool.name": call.tool,
            "mcpace.status": call.status,
            "mcpace.cache": call.cache,
            "mcpace.tier": call.tier,
            "http.request.body.size": call.received,
            "http.response.body.size": call.sent,
            "error.type": call.status if call.status in _FAILED else None,
        }
        ended = time.time_ns()
        self._exporting.on_end(
            ReadableSpan(
                name=f"tools/call {call.tool}",
                context=_context(call.span),
                parent=_context(call.trace) if continued else None,
                resource=self._resource,
                attributes={key: value for key, value in attributes.items() if value not in (None, "")},
                kind=SpanKind.SERVER,
                status=Status(StatusCode.ERROR if call.status in _FAILED else StatusCode.UNSET),
                start_time=ended - int(call.seconds * 1e9),
                end_time=ended,
            )
        )

    def close(self) -> None:
        """Export what is left; blocks until that is done or has failed."""
        self._exporting.shutdown()  # type: ignore[no-untyped-call]


def _context(parent: bytes) -> SpanContext:
    return SpanContext(
        trace_id=int(parent[3:35], 16),
        span_id=int(parent[36:52], 16),
        is_remote=False,
        trace_flags=TraceFlags(int(parent[53:55], 16)),
        trace_state=TraceState(),
    )
