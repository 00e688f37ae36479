"""What a sidecar says of itself: an older one's words are read, a newer one's too, and a hostile one's are refused."""

import msgspec
import pytest

from mcpace_sidecar.contract.report import VERSION, Readiness, Report, ServerInfo

COUNTED = {
    "count": 2, "errors": 0, "limited": 0, "hits": 1, "sentBytes": 10, "callsPerSecond": 0.1, "histogram": {"3": 2},
}  # fmt: skip


def read(document, kind=Report):
    return msgspec.json.decode(msgspec.json.encode(document), type=kind)


def test_the_report_of_the_first_sidecar_is_read():
    report = read({"calls": {"get": COUNTED}})
    assert report.calls["get"].histogram == {3: 2}
    assert (report.version, report.server, report.tools, report.slots.of) == (0, None, (), None)


def test_what_a_newer_sidecar_says_besides_is_passed_over():
    newer = {
        "calls": {},
        "version": VERSION + 1,
        "moods": ["calm"],
        "slots": {"taken": 1, "of": 2, "kind": "x"},
    }
    report = read(newer)
    assert (report.version, report.slots.taken) == (VERSION + 1, 1)


def test_what_is_written_is_what_is_read():
    report = Report(
        {}, version=VERSION, server=ServerInfo("weather", "1.0", "2026-07-28"), tools=("get",), sessions=3
    )
    assert read(report) == report


@pytest.mark.parametrize(
    "document",
    [
        [],
        {},
        {"calls": []},
        {"calls": {"get": {}}},
        {"calls": {"get": COUNTED | {"count": -1}}},
        {"calls": {"get": COUNTED | {"count": 1 << 60}}},
        {"calls": {"get": COUNTED | {"count": 1.5}}},
        {"calls": {"get": COUNTED | {"callsPerSecond": 1e300}}},
        {"calls": {"get": COUNTED | {"histogram": {"600": 1}}}},
        {"calls": {"get": COUNTED | {"histogram": {"-1": 1}}}},
        {"calls": {"x" * 1025: COUNTED}},
        {"calls": {str(number): COUNTED for number in range(10_001)}},
        {"calls": {}, "server": "weather"},
        {"calls": {}, "server": {"name": "x" * 1025, "version": "", "protocolVersion": ""}},
        {"calls": {}, "tools": [["get"]]},
        {"calls": {}, "doors": {str(number): {"requests": 0, "connections": 0} for number in range(257)}},
        {"calls": {}, "findings": [{"reason": "UnknownTool"}]},
        {"calls": {}, "sessions": "3"},
    ],
    ids=lambda document: msgspec.json.encode(document)[:60].decode(),
)
def test_a_report_that_no_sidecar_gives_is_refused_whole(document):
    with pytest.raises(msgspec.ValidationError):
        read(document)


def test_a_reason_for_not_being_ready_has_an_end():
    assert read({"ready": False, "reason": "x" * 8192}, Readiness).reason
    with pytest.raises(msgspec.ValidationError):
        read({"ready": False, "reason": "x" * 8193}, Readiness)
