"""What the server itself uses, as far as it can be seen."""

from tests.kit.sidecars import Start
from tools.ports import free_port


async def test_metrics_show_what_is_seen_of_the_server(start: Start) -> None:
    seen = [("mcpace_server_cpu_seconds", 1.5), ("mcpace_server_memory_bytes", 7.0)]
    sidecar = await start(free_port(), server_usage=lambda: iter(seen))
    metrics = await sidecar.metrics()
    assert metrics["mcpace_server_cpu_seconds_total"] == 1.5
    assert metrics["mcpace_server_memory_bytes"] == 7.0
