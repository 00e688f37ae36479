"""A configuration that is changed again and again: nothing of the ones before stays."""

from __future__ import annotations

import gc

import pytest
from tests.kit.sidecars import Start
from tests.kit.upstream import Scripted
from tests.kit.waiting import until

from mcpace_sidecar.call.settings import Settings
from mcpace_sidecar.process import sidecar as module


def alive() -> int:
    return sum(type(each) is Settings for each in gc.get_objects())


async def test_a_configuration_that_was_replaced_leaves_memory_with_its_last_call(
    scripted: Scripted, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "OUTLIVED", 0.1)
    sidecar = await start(
        scripted.port, {"rateLimits": {}, "cache": {"tools": [{"name": "t", "ttl": "1m"}]}}
    )
    gc.collect()
    before = alive()
    for number in range(5):
        await sidecar.call("t", {"n": number}, **{"X-Request-Id": str(number)})
        sidecar.reload()
    # An idle connection may still know the last of them.
    await until(lambda: alive() <= before + 1, f"the configurations before to go, {before} at first")
