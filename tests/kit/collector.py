"""A collector of spans."""

from __future__ import annotations

import gzip
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from tests.kit.upstream import Scripted


class Collector(Scripted):
    """Receives what is exported, over OTLP as its specification has it."""

    @property
    def spans(self) -> list[tuple[dict[str, str], Any]]:
        """Each with what is said of its resource."""
        received = []
        for heard in self.heard:
            body = gzip.decompress(heard.body) if heard.body[:2] == b"\x1f\x8b" else heard.body
            for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                about = {a.key: a.value.string_value for a in resource.resource.attributes}
                received += [(about, span) for scope in resource.scope_spans for span in scope.spans]
        return received
