"""Servers in order, what several sidecars' reports make together, and the way of a person through the screen."""

from __future__ import annotations

import io
from typing import Any

import msgspec
from rich.console import Console

from mcpace_cli.cluster import top
from mcpace_cli.cluster.access import Access
from mcpace_cli.cluster.command import SORTED_BY
from mcpace_cli.cluster.screen import SENT, Level, View
from mcpace_cli.cluster.sidecars import Heard
from mcpace_cli.cluster.top import Inside, Row, counting, ordered, tools
from mcpace_cli.live.terminal import pressed
from mcpace_operator.resource.server import Key, Server
from mcpace_sidecar.contract.report import ClientLeft, ClientsLeft, Left, Report


def server(name: str, **performance: str) -> Server:
    checklist = [{"name": "A", "result": "Passed"}, {"name": "B", "result": "Failed"}]
    ready = {
        "type": "Ready",
        "status": "True",
        "reason": "AllReplicasReady",
        "message": "2 of 2 are ready.",
    }
    status: dict[str, Any] = {"replicasReady": "2/2", "checklist": checklist, "conditions": [ready]}
    return Server(
        Key("default", name), name, 1, {}, status | ({"performance": performance} if performance else {})
    )


SERVERS = [
    server("idle"),
    server("busy", callsPerSecond="120", p95="80ms", errorRate="0%"),
    server("slow", callsPerSecond="2.5", p95="1.2s", errorRate="12%"),
]


def report(count: int, hits: int, seconds: dict[int, int]) -> Report:
    counted = {
        "count": count, "errors": 1, "limited": 2, "hits": hits, "sentBytes": 100, "callsPerSecond": count / 300,
        "histogram": seconds,
    }  # fmt: skip
    return msgspec.convert({"calls": {"t": counted}, "inFlight": {"t": 1, "u": 3}}, Report, strict=False)


def test_servers_are_sorted_by_what_is_asked_for_and_those_that_tell_nothing_come_last():
    rows = list(map(Row.of, SERVERS))
    assert [row.name for row in ordered(rows, "calls")] == ["busy", "slow", "idle"]
    assert [row.name for row in ordered(rows, "p95")] == ["slow", "busy", "idle"]
    assert [row.name for row in ordered(rows, "errors")] == ["slow", "busy", "idle"]
    assert [row.name for row in ordered(rows, "name")] == ["busy", "idle", "slow"]


def test_what_may_be_typed_to_sort_by_is_what_is_sorted_by():
    assert tuple(top.SORTS) == SORTED_BY


def test_a_row_tells_what_the_status_does_be_that_whoevers():
    row = Row.of(SERVERS[1])
    assert row.cells == (
        "default", "busy", "2/2", "120", "", "80ms", "", "0%", "", "", "1/2", "AllReplicasReady",
    )  # fmt: skip
    assert row.document["checklist"] == {"passed": 1, "of": 2, "failed": ["B"]}
    odd = Server(
        Key("default", "odd"), "u", 1, {}, {"performance": 5, "checklist": {"a": 1}, "conditions": 7}
    )
    assert Row.of(odd).cells[1:3] == ("odd", "")


def test_the_reports_of_replicas_are_added_up():
    first, second = tools([report(10, 5, {100: 10}), report(30, 5, {200: 30})])
    assert (first.name, first.calls, first.hits, first.errors, first.limited) == ("t", 40, 10, 2, 4)
    assert first.p50 is not None
    assert first.p95 is not None
    assert (first.p50 == first.p95, first.in_flight) == (True, 2), (
        "three of four calls are in the later bucket"
    )
    assert (second.name, second.calls, second.in_flight, second.p50) == ("u", 0, 6, None)


def test_programs_read_of_a_tool_what_they_read_of_a_status_by_the_same_names():
    (busy, _) = tools([report(30, 5, {100: 30})])
    row = Row.of(server("busy", callsPerSecond="0.1", p95="1s"))
    assert set(row.document["performance"]) <= set(busy.document)
    assert busy.document["callsPerSecond"] == 0.1
    assert (busy.document["inFlight"], busy.document["sentBytes"]) == (1, 100)
    assert not [name for name in busy.document if "_" in name]


def test_replicas_that_share_a_redis_are_told_of_as_one():
    acme = ClientLeft("key:pro/acme", "pro", (Left("minute", 60, 30.0, 30.0),))
    other = ClientLeft("addr:10.0.0.1", "free", (Left("minute", 10, 1.0, 54.0),))
    shared = {"a": ClientsLeft((acme,), shared=True), "b": ClientsLeft((acme, other), shared=True)}
    ((_, told),) = counting(Heard(shared, {}))
    assert told.clients == (other, acme), "who has least left comes first"
    alone = {"a": ClientsLeft((acme,)), "b": ClientsLeft((acme, other))}
    assert [name for name, _ in counting(Heard(alone, {}))] == ["a", "b"]


def test_a_person_opens_a_server_to_its_tools_and_clients_and_goes_back():
    view = View("name", servers=SERVERS)
    assert not view.press("down")
    assert view.press("open"), "what is inside is not known yet"
    assert (view.opened, view.level) == (Key("default", "idle"), Level.TOOLS)
    left = Left("minute", 60, 12.0, 48.0)
    view.told = Inside(tools([report(4, 0, {1: 4})]), [ClientLeft("key:pro/acme", "pro", (left,))])
    assert "t " in shown(view)
    assert not view.press("open")
    assert view.level is Level.CLIENTS
    assert "key:pro/acme" in shown(view)
    view.press("back")
    view.press("back")
    assert (view.level, view.at, view.opened) == (Level.SERVERS, 1, None)
    view.press("end")
    assert view.ended


def test_nobody_leaves_the_table_by_a_key_and_sorting_goes_round():
    view = View("calls", servers=SERVERS)
    for _ in range(9):
        view.press("down")
    assert view.at == 2
    for _ in range(9):
        view.press("up")
    assert view.at == 0
    for _ in range(6):
        view.press("sort")
    assert view.sort == "calls"
    empty = View("calls")
    for key in ("up", "down", "open", "back"):
        empty.press(key)
    assert "no McpServer" in shown(empty)


def test_what_a_server_says_is_not_obeyed_by_the_terminal():
    evil = server("evil", callsPerSecond="\x1b[2J1")
    assert "\x1b[2J" not in shown(View("name", servers=[evil]))


def test_of_many_servers_those_around_the_chosen_one_are_shown():
    many = [server(f"s{number:03}") for number in range(300)]
    view = View("name", servers=many)
    for _ in range(200):
        view.press("down")
    text = shown(view, height=20)
    assert "s200" in text
    assert len(text.splitlines()) <= 20


def test_a_narrow_terminal_does_without_columns_and_cuts_none():
    view = View("calls", servers=SERVERS)
    assert shown(view).splitlines()[1].split() == list(top.SERVERS)
    usual = shown(view, width=80)
    assert usual.splitlines()[1].split() == [
        "NAMESPACE", "NAME", "READY", "CALLS/S", "P95", "ERRORS", "STATUS",
    ]  # fmt: skip
    assert "…" not in usual
    view.press("open")
    view.told = Inside(tools([report(4, 2, {1: 4})]))
    assert "…" not in shown(view, width=80)
    assert "…" in shown(view, width=20), "there is no room for what is left"


def test_keys_are_told_by_what_they_send():
    assert pressed(b"\x1b[B\x1b[Bj\r", SENT) == ["down", "down", "down", "open"]
    assert pressed(b"\x1b", SENT) == ["back"]
    assert pressed(b"xyz\x1b[5~", SENT) == [], "what begins as esc does is no esc"
    assert pressed(b"", SENT) == ["end"], "nobody is there to press any"


class Emptied(Access):
    """A cluster of which all servers are deleted."""

    def __init__(self) -> None:
        self.namespace = "default"

    async def servers(self) -> list[Server]:
        return []


async def test_of_a_server_that_is_opened_and_deleted_it_is_said_that_it_is_gone():
    view = View("name", servers=SERVERS)
    view.press("down")
    view.press("open")
    view.told = Inside(tools([report(4, 0, {1: 4})]))
    await view.look(Emptied())
    assert "default/idle is not there any more." in shown(view)
    view.press("back")
    assert "no McpServer" in shown(view)


def shown(view: View, height: int = 40, width: int = 200) -> str:
    console = Console(file=io.StringIO(), width=width, height=height)
    with console.capture() as captured:
        console.print(view.drawn(width, height))
    return captured.get()
