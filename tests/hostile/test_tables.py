"""Tables that anybody can fill: what is over their bound is forgotten, and nobody else is harmed."""

from itertools import count
from time import time

import pytest
from tests.kit.sidecars import Start
from tests.kit.upstream import Scripted
from tests.kit.waiting import until
from tests.kit.work import assert_spread

from mcpace_sidecar.bounded import SWEPT, make_room
from mcpace_sidecar.cache import entry
from mcpace_sidecar.cache.entry import ALL, Place
from mcpace_sidecar.cache.memory import MemoryResults
from mcpace_sidecar.cache.policy import Private, tool_tag
from mcpace_sidecar.call.sessions import Sessions
from mcpace_sidecar.contract.config.rate_limits import RateLimits
from mcpace_sidecar.identity.client import Client
from mcpace_sidecar.limits import memory
from mcpace_sidecar.limits.bucket import Charge, Charges
from mcpace_sidecar.limits.memory import MemoryLimits
from mcpace_sidecar.limits.plan import LimitPlan
from mcpace_sidecar.mcp.catalog import MAX_LABELS, MAX_TOOLS, OTHER, Catalog

MANY = 16_000


class Clock:
    now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


def private_place(name: str) -> Place:
    private = Private(Client("addr:192.0.2.1"), (b"authorization:Bearer " + name.encode(),), (), b"/", b"")
    return Place(name.encode(), (ALL, tool_tag("t"), *private.tags))


def test_room_among_levels_is_made_bit_by_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "LEVELS", MANY)
    limits, names = MemoryLimits(Clock()), count()

    def come(_: object = None) -> None:
        limits.take(Charges([Charge(f"day:{next(names)}", "day", 10)]))

    while len(limits) < memory.LEVELS:
        come()
    assert_spread(come, MANY // 4)
    assert len(limits) <= memory.LEVELS
    before = len(limits)
    come()
    assert before - len(limits) < memory.LEVELS / 100, "many others are forgotten for one"


@pytest.mark.parametrize("used", [False, True], ids=["unused", "used"])
def test_room_among_results_is_made_bit_by_bit(*, used: bool) -> None:
    results, names = MemoryResults(1 << 30, MANY), count()

    def come(_: object = None) -> None:
        place = private_place(str(next(names)))
        results.keep(place, results.marks.of(place.tags), b"kept", 60, 0)
        if used:
            results.near(place.key)

    while len(results) < results.max_entries:
        come()
    assert_spread(come, MANY // 4)
    assert len(results) == results.max_entries, "others are forgotten for none"


def test_room_among_marks_is_made_bit_by_bit() -> None:
    results, names = MemoryResults(1 << 30, 100_000), count()
    for number in range(entry.REMEMBERED // 2):
        place = private_place(f"kept-{number}")
        results.keep(place, results.marks.of(place.tags), b"kept", 60, 0)
    while len(results.marks) < entry.REMEMBERED:
        results.marks.of(private_place(str(next(names))).tags)
    assert_spread(lambda _: results.marks.of(private_place(str(next(names))).tags), MANY // 4)
    assert results.near(b"kept-0") is not None


def test_what_has_outlived_its_time_is_forgotten_bit_by_bit() -> None:
    clock = Clock()
    results, limits = MemoryResults(1 << 30, MANY, clock), MemoryLimits(clock)
    for number in range(MANY):
        results.keep(Place(b"%d" % number, (ALL,)), (), b"kept", 60, 0)
        limits.take(Charges([Charge(f"minute:{number}", "minute", 10)]))
    clock.now += 100
    for table in (results, limits):
        while len(table):
            before = len(table)
            table.sweep()
            assert 0 < before - len(table) <= SWEPT


async def test_a_sidecar_gives_back_what_quiet_clients_held_within_moments(
    scripted: Scripted, start: Start
) -> None:
    limits = (await start(scripted.port, {"rateLimits": {}})).plane.limits
    assert isinstance(limits, MemoryLimits)
    limits._clock = lambda: time() - 100
    for number in range(3 * SWEPT):
        limits.take(Charges([Charge(f"minute:{number}", "minute", 10)]))
    assert len(limits) == 3 * SWEPT
    limits._clock = time
    await until(lambda: not len(limits), "levels that nobody uses to be forgotten")


def test_ever_new_credentials_take_nothing_from_those_whose_results_are_kept() -> None:
    results = MemoryResults(64 * 1024 * 1024)
    shared, honest = Place(b"shared", (ALL, tool_tag("t"))), private_place("honest")
    for place in (shared, honest):
        results.keep(place, results.marks.of(place.tags), b"kept", 60, 0)
    for number in range(3 * entry.REMEMBERED):
        place = private_place(f"guess-{number}")
        marks = results.marks.of(place.tags)
        assert len(marks) == len(set(marks)) == 4
    for place in (shared, honest):
        assert results.near(place.key) is not None, place
    assert len(results.marks) <= entry.REMEMBERED + 2


def test_more_credentials_with_results_than_are_remembered_lose_their_results_alone() -> None:
    results = MemoryResults(64 * 1024 * 1024, 10 * entry.REMEMBERED)
    shared = Place(b"shared", (ALL, tool_tag("t")))
    results.keep(shared, results.marks.of(shared.tags), b"kept", 60, 0)
    names = [f"user-{number}" for number in range(entry.REMEMBERED + 10)]
    for name in names:
        place = private_place(name)
        results.keep(place, results.marks.of(place.tags), name.encode(), 60, 0)
    assert results.near(b"shared") is not None
    found = {name: results.near(name.encode()) for name in names}
    assert found[names[-1]] is not None
    assert all(e is None or e.result == name.encode() for name, e in found.items())


def test_a_purge_reaches_what_was_kept_before_the_marks_ran_over() -> None:
    results = MemoryResults(64 * 1024 * 1024)
    place = private_place("honest")
    before = results.marks.of(place.tags)
    for number in range(2 * entry.REMEMBERED):
        results.marks.of(private_place(f"guess-{number}").tags)
    results.purge((tool_tag("t"),))
    results.keep(place, before, b"asked for before the purge", 60, 0)
    assert results.near(place.key) is None


def test_ever_new_clients_take_nothing_from_one_who_has_used_his_day() -> None:
    limits = MemoryLimits(Clock())

    def charges(name: str) -> Charges:
        return Charges([Charge(f"minute:{name}", "minute", 60), Charge(f"day:{name}", "day", 10)])

    honest = charges("honest")
    for _ in range(10):
        assert limits.take(honest).allowed
    for number in range(memory.LEVELS):
        limits.take(charges(f"new-{number}"))
        assert len(limits) <= memory.LEVELS
    assert not limits.take(honest).allowed
    assert not limits.take(charges("honest")).allowed


def test_ever_new_clients_and_sessions_are_forgotten_oldest_first() -> None:
    plan = LimitPlan(RateLimits())
    clients = [Client(f"addr:{n}") for n in range(25_000)]
    for client in clients:
        first = plan.charges(client, None)
        assert plan.charges(client, None) is first
    assert [c.key for c in plan.charges(clients[0], None).items] == [
        "minute:free:addr:0",
        "day:free:addr:0",
    ]
    sessions = Sessions()
    for number in range(120_000):
        sessions.heard(b"%d" % number, b"POST", 200)
    assert len(sessions) <= 50_000
    assert b"119999" in sessions
    assert b"0" not in sessions


def test_what_is_remembered_never_loses_its_newest() -> None:
    for limit in (1, 2, 15, 16, 17, 100):
        remembered: dict[int, int] = {}
        for number in range(5 * limit):
            make_room(remembered, limit)
            remembered[number] = number
            assert number in remembered
            assert len(remembered) <= limit


def test_a_server_with_more_tools_than_are_known_has_the_others_called_other() -> None:
    catalog = Catalog(locked=True, configured=frozenset({"mine"}))
    tools = [{"name": f"t{number}"} for number in range(MAX_TOOLS + 10)]
    catalog._take([*tools, {"name": "mine", "annotations": {"readOnlyHint": False}}])
    assert len(catalog.tools) == MAX_TOOLS + 1
    assert catalog.label("t0") == "t0"
    assert catalog.label(f"t{MAX_TOOLS + 5}") == OTHER
    assert catalog.forbids_caching("mine")


def test_only_so_many_tools_have_a_label_of_their_own() -> None:
    """A series of each histogram for ten thousand tools takes seconds to be written, and holds up every call."""
    catalog = Catalog(locked=True, configured=frozenset({"mine"}))
    for generation in "ab":
        catalog.tools = {}
        catalog._take({"name": f"{generation}{number}"} for number in range(MAX_LABELS * 2))
    labels = {
        catalog.label(f"{generation}{number}") for generation in "ab" for number in range(MAX_LABELS * 2)
    }
    assert len(labels) == MAX_LABELS + 1
    assert OTHER in labels
    assert catalog.label("mine") == "mine"
