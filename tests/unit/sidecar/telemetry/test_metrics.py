"""The exposition: durations as long as calls of MCP take."""

import pytest
from prometheus_client.parser import text_string_to_metric_families

from mcpace_sidecar.telemetry.events import CallEnded
from mcpace_sidecar.telemetry.metrics import Metrics


@pytest.mark.parametrize(
    ("seconds", "bound"),
    [(0.0004, 0.001), (0.01, 0.01), (0.011, 0.025), (29.0, 30.0), (61.0, 120.0), (299.0, 300.0), (300.1, float("inf"))],
)  # fmt: skip
def test_a_duration_is_counted_from_its_bucket_on_up_to_five_minutes(seconds: float, bound: float) -> None:
    metrics = Metrics(lambda: iter(()))
    metrics.on_call(CallEnded("t", "success", seconds))
    counts = {
        float(sample.labels["le"]): sample.value
        for family in text_string_to_metric_families(metrics.text().decode())
        for sample in family.samples
        if sample.name == "mcp_tool_duration_seconds_bucket"
    }
    assert counts == {each: float(each >= bound) for each in counts}
    assert {0.001, 60.0, 120.0, 300.0, float("inf"), bound} <= counts.keys()
