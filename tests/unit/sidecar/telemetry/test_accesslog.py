"""The line of an ended call."""

from __future__ import annotations

import json

import pytest

from mcpace_sidecar.telemetry import accesslog
from mcpace_sidecar.telemetry.events import CallEnded


def test_a_call_is_one_line_of_json_whatever_its_names_hold(capsys: pytest.CaptureFixture[str]) -> None:
    accesslog.write(
        CallEnded("t\n", "error", 0.0123456, "memory", 10, 200, 'a "client"', "free", b"00-\xff", b"span")
    )
    accesslog.write(CallEnded("t", "success", 1.0))
    first, second = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    assert first.pop("time") <= second.pop("time")
    assert first == {
        "tool": "t\n",
        "status": "error",
        "milliseconds": 12.346,
        "cache": "memory",
        "client": 'a "client"',
        "tier": "free",
        "requestBytes": 10,
        "responseBytes": 200,
        "traceparent": "00-ÿ",
    }
    assert (second["cache"], second["tier"], second["traceparent"]) == (None, None, None)
