"""What is drawn fits the screen, whatever servers are called and say, and none of it is obeyed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from mcpace_cli.asked import Asked
from mcpace_cli.live.frame import KEYS, Wish, frame
from mcpace_cli.live.rates import ASCII
from mcpace_cli.live.served import Served
from mcpace_cli.live.servers import Server
from mcpace_cli.live.terminal import pressed
from mcpace_cli.live.tie import Told
from mcpace_cli.live.view import SENT, Key
from mcpace_cli.show import line_of
from mcpace_sidecar.contract.report import Counted, Report, ServerInfo

COUNTED = Counted(1234, 5, 6, 700, 8, 4.0, {}, p50=0.0123, p95=0.25, p99=1.5)


def served(name: str = "weather", **report: object) -> Served:
    one = Served(Server(name, Asked()))
    one.told = Told("http://127.0.0.1:18080/mcp", "http://127.0.0.1:18090/", ready=True)
    told: dict[str, object] = {"calls": {}, "server": ServerInfo("weather", "1.0", "2025-11-25")}
    one.report = Report(**told | report)
    return one


def lines(*all_of_them: Served, width: int = 120, height: int = 30, **wish: object) -> list[str]:
    return frame(all_of_them, Wish(width, height, **wish)).plain.split("\n")


def test_a_row_says_what_the_report_does():
    one = served(calls={"get": COUNTED}, tools=("get", "put"), in_flight={"get": 2})
    shown = lines(one)
    (head,) = [line for line in shown if line.startswith("TOOL")]
    assert " ".join(head.split()) == "TOOL CALLS/S CURVE P50 P95 P99 CALLS HITS LIMITED ERRORS IN FLIGHT"
    (row,) = [line for line in shown if line.startswith("get ")]
    assert " ".join(row.split()) == "get 0 12.3 ms 250 ms 1.5 s 1,234 700 6 5 2"
    (other,) = [line for line in shown if line.startswith("put ")]
    assert " ".join(other.split()) == "put 0 - - - 0 0 0 0 0"
    assert shown.index(row) < shown.index(other), "the busiest first"
    assert len(head.rstrip()) == len(row.rstrip())


def test_large_numbers_keep_to_their_columns():
    many = Counted(123_456_789, 999_950, 100_000, 99_999, 8, 4.0, {}, p50=1e-6, p95=250.0, p99=299.4)
    shown = lines(served(calls={"get": many}), width=110)
    head, row = (line for line in shown if line.startswith(("TOOL", "get ")))
    assert row.split()[-5:] == ["123.5M", "99,999", "100k", "1000k", "0"]
    assert len(row.rstrip()) == len(head.rstrip())


def test_a_narrow_terminal_keeps_what_matters_most():
    shown = lines(served(calls={"get": COUNTED}), width=80)
    (head,) = [line for line in shown if line.startswith("TOOL")]
    assert " ".join(head.split()) == "TOOL CALLS/S CURVE P50 P95 P99 HITS LIMITED IN FLIGHT"
    assert len(head) <= 80
    (head,) = [line for line in lines(served(calls={"get": COUNTED}), width=40) if line.startswith("TOOL")]
    assert " ".join(head.split()) == "TOOL CALLS/S P95 HITS"


def test_a_name_is_given_what_room_there_is_and_where_it_is_cut_that_shows():
    one = served(calls={"get-the-weather-of-tomorrow": COUNTED})
    for width, name in ((50, "get-the-weat…"), (40, "get-the-weather-…"), (80, "get-the-weather-…")):
        assert [line for line in lines(one, width=width) if line.startswith(f"{name} ")], width
    assert [line for line in lines(one, width=110) if line.startswith("get-the-weather-of-tomorrow ")]


@pytest.mark.parametrize("width", range(28, 130))
def test_no_column_is_cut(width: int):
    shown = lines(served(calls={"get": COUNTED}), width=width)
    head, row = (line for line in shown if line.startswith(("TOOL", "get ")))
    assert "…" not in head + row
    assert len(head.rstrip()) == len(row.rstrip()) <= width


def test_tools_for_which_there_is_no_room_are_counted():
    one = served(tools=tuple(f"tool-{number:03}" for number in range(300)))
    shown = lines(one, height=20, log=False)
    rows = [line for line in shown if line.startswith("tool-")]
    assert f"and {300 - len(rows)} more tools" in shown
    assert shown.index(f"and {300 - len(rows)} more tools") == 18
    assert shown[-1].startswith(KEYS)


def test_the_log_ends_with_what_was_said_last_and_long_lines_are_folded():
    one = served(tools=("get",))
    one.lines.extend([f"line {number}" for number in range(100)])
    one.lines.append("x" * 130)
    shown = lines(one, height=20)
    assert shown[-3] == "x" * 120
    assert shown[-2] == "x" * 10
    assert shown[-4] == "line 99"
    assert [line for line in shown if line.startswith("-- log ")]
    assert not [line for line in lines(one, height=20, log=False) if line.startswith(("-- log", "line "))]


def test_how_a_server_is_stands_above_in_words():
    starting, waiting, gone, mute = (served(name) for name in ("a", "b", "c", "d"))
    starting.told = starting.report = None
    waiting.report = Report({}, ready=False, problem="Nothing listens\non port 1.")
    gone.code = -9
    mute.problem = "its statistics cannot be read: timed out"
    all_of_them = (starting, waiting, gone, mute)
    assert lines(*all_of_them)[0] == "mcpace run [a: not ready] b: not ready  c: ended  d "
    assert lines(*all_of_them)[1] == "starting"
    assert "Not ready: Nothing listens on port 1." in lines(*all_of_them, chosen=1)
    assert "It was killed by SIGKILL" in lines(*all_of_them, chosen=2)
    assert "its statistics cannot be read: timed out" in lines(*all_of_them, chosen=3)
    open_circuit = served(breakers=("get", ""), stores={"limits": False, "cache": True})
    (holds,) = [line for line in lines(open_circuit, width=200) if line.startswith("cache: ")]
    assert "circuit open: get, the server" in holds
    assert "limits in Redis: DOES NOT ANSWER" in holds
    assert "cache in Redis: answers" in holds


def test_the_chosen_server_is_in_sight_among_many():
    many = [served(f"server-{number:02}") for number in range(40)]
    for chosen in (0, 3, 39):
        assert f"[server-{chosen:02}" in lines(*many, width=60, chosen=chosen)[0]


def test_a_terminal_without_unicode_is_sent_none():
    one = served(calls={"get": COUNTED}, tools=("a-tool-with-a-long-name-" * 4,))
    shown = "\n".join(lines(one, served("b"), width=50, blocks=ASCII, note="x" * 100))
    assert shown.isascii(), shown


@given(
    name=st.text(max_size=60),
    said=st.lists(st.binary(max_size=300).map(lambda line: line.replace(b"\n", b"")), max_size=20),
    width=st.integers(1, 160),
    height=st.integers(1, 40),
    log=st.booleans(),
)
def test_no_frame_is_larger_than_the_screen_or_holds_what_a_terminal_obeys(
    name: str, said: list[bytes], width: int, height: int, log: bool
):
    one = served(
        calls={name: COUNTED}, tools=(name, f"{name}2"), breakers=(name,), server=ServerInfo(name, name, name),
        problem=name,
    )  # fmt: skip
    one.lines.extend(map(line_of, said))
    shown = lines(one, served("b"), width=width, height=height, log=log, note=name)
    assert len(shown) <= height
    assert max(map(cell_len, shown)) <= width
    for line in shown:
        assert not any(ord(each) < 32 or 127 <= ord(each) < 160 or each == "\u202e" for each in line), line


@pytest.mark.parametrize(
    ("written", "line"),
    [
        (b"plain", "plain"),
        (b"\x1b[31mred\x1b[0m and \x1b[38;5;1mmore", "red and more"),
        (b"\x1b[2J\x1b]0;owned\x07", r"\u001b[2J\u001b]0;owned\u0007"),
        ("\x9b2J\u202e".encode(), r"\u009b2J\u202e"),
        (b"a\tb\r", "a       b"),
        (b"\xff\xfe", "\ufffd\ufffd"),
        (b"caf\xc3\xa9  ", "café"),
    ],
)
def test_a_line_of_a_log_is_text_without_colours(written: bytes, line: str):
    assert line_of(written) == line


def test_keys_are_what_terminals_send_for_them_and_others_are_nothing():
    assert pressed(b"qQpPlL", SENT) == [Key.QUIT] * 2 + [Key.PURGE] * 2 + [Key.LOG] * 2
    assert pressed(b"\t\x1b[C\x1bOC\x1b[B\x1bOB", SENT) == [Key.NEXT] * 5
    assert pressed(b"\x1b[Z\x1b[D\x1bOD\x1b[A\x1bOA", SENT) == [Key.BEFORE] * 5
    assert pressed("x\x1b[15~\x1b[1;5Cé\x1b\n\x00".encode(), SENT) == []
    assert pressed(b"", SENT) == []
