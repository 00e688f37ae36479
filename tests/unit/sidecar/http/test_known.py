"""Heads of requests that are found again: whatever was learned before, a head means what it means when parsed whole."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcpace_sidecar.errors import ProtocolError
from mcpace_sidecar.http.connections import Connections, Guest
from mcpace_sidecar.http.gathering import Gathering
from mcpace_sidecar.http.head import MAX_LINES, Names, RequestHead
from mcpace_sidecar.http.known import RequestHeads
from mcpace_sidecar.http.lines import VARIES_AFTER

NAMES = Names(
    {b"authorization", b"content-type", b"mcp-name", b"x-consumer"},
    (b"x-forwarded-for", b"x-real-ip"),
    (b"x-forwarded-",),
)
TRACE = b"traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\r\n"
PLAIN = b"POST /mcp HTTP/1.1\r\nHost: a\r\nX-A: 1\r\n"


def gateway(number: int, *, more: bytes = b"") -> bytes:
    """A head as a gateway writes it: most of its lines differ each time."""
    return (
        PLAIN
        + b"X-Request-Id: %032x\r\n" % number
        + b"X-Forwarded-For: 10.0.0.%d\r\n" % (number % 250)
        + TRACE.replace(b"4736", b"%04x" % number)
        + b"Mcp-Param-City: Paris%d\r\n" % number
        + b"Content-Length: %d\r\n" % (number % 300)
        + more
        + b"\r\n"
    )


def test_heads_that_differ_in_what_decides_nothing_are_parsed_once() -> None:
    heads, seen = RequestHeads(NAMES), []
    for number in range(60):
        head, trace, lines, apart = heads.read(gateway(number))
        passed = sorted([*(line for _, line in head.onward), *lines.splitlines(keepends=True)])
        assert head.length == number % 300
        assert trace == TRACE.replace(b"4736", b"%04x" % number)
        assert apart == (b"10.0.0.%d" % (number % 250), b"")
        assert passed == sorted(
            [b"X-A: 1\r\n", b"X-Request-Id: %032x\r\n" % number, b"Mcp-Param-City: Paris%d\r\n" % number]
        )
        seen.append(id(head.base))
    assert len(set(seen[VARIES_AFTER + 1 :])) == 1


def test_heads_that_differ_in_length_and_trace_alone_are_parsed_once() -> None:
    heads, seen = RequestHeads(NAMES), []
    for number in range(50):
        trace = TRACE.replace(b"4736", b"%04x" % number)
        head, line, lines, _ = heads.read(
            PLAIN + b"Content-Length: %d\r\n" % (number % 5) + trace + b"\r\n"
        )
        assert (head.length, line, lines) == (number % 5, trace, b"")
        seen.append(head.base)
    assert len({id(base) for base in seen}) == 1


def test_what_decides_is_never_taken_to_vary() -> None:
    heads = RequestHeads(NAMES)
    for number in range(100):
        head, _, lines, _ = heads.read(PLAIN + b"Authorization: Bearer %d\r\n\r\n" % number)
        assert head.get(b"authorization") == b"Bearer %d" % number
        assert not lines


def test_lines_of_one_name_keep_their_order_when_it_begins_to_vary() -> None:
    heads = RequestHeads(NAMES)
    for number in range(3 * VARIES_AFTER):
        wanted = [b"X-V: %d\r\n" % n for n in range(number * 3, number * 3 + 3)]
        head, _, lines, _ = heads.read(PLAIN + b"".join(wanted) + b"\r\n")
        got = [line for name, line in head.onward if name == b"x-v"] + lines.splitlines(keepends=True)
        assert got == wanted


def test_clients_that_come_again_are_known_at_the_first_look() -> None:
    heads = RequestHeads(NAMES)
    raws = [PLAIN + b"X-Real-IP: 10.0.0.%d\r\nContent-Length: 9\r\n\r\n" % number for number in range(7)]
    for _ in range(40):
        for number, raw in enumerate(raws):
            assert heads.read(raw)[3] == (b"", b"10.0.0.%d" % number)
    assert all(heads.read(raw)[0] is heads.read(raw)[0] for raw in raws)


def test_lines_keep_their_order_though_one_was_known_beside_what_varied_before() -> None:
    heads = RequestHeads(NAMES)
    for number in range(5 * VARIES_AFTER):
        heads.read(PLAIN + b"X-R: %d\r\nX-V: z\r\n\r\n" % number)
    for number in range(5 * VARIES_AFTER):
        heads.read(PLAIN + b"X-V: %d\r\n\r\n" % number)
    means_the_same(heads, [b"X-V: a", b"X-R: 1", b"X-V: z"])


def test_a_line_that_varies_goes_no_further_where_connection_names_it() -> None:
    heads = RequestHeads(NAMES)
    for number in range(5 * VARIES_AFTER):
        heads.read(PLAIN + b"X-R: %d\r\nX-V: %d\r\n\r\n" % (number, number))
    for number in range(5 * VARIES_AFTER):
        heads.read(PLAIN + b"Connection: X-V\r\nX-R: %d\r\n\r\n" % number)
    means_the_same(heads, [b"Connection: X-V", b"X-R: 1", b"X-V: 1"])


def test_a_line_that_varies_and_is_odd_is_refused_though_the_rest_is_known() -> None:
    heads = RequestHeads(NAMES)
    for number in range(5 * VARIES_AFTER):
        heads.read(PLAIN + b"X-V: %d\r\nX-B: 1\r\n\r\n" % number)
    for odd in (b"X-V: a\x01\r\n", b"X-V: a\r\n folded\r\n", b"X-V : a\r\n", b"X-V: a\rX-C: b\r\n"):
        with pytest.raises(ProtocolError):
            heads.read(PLAIN + odd + b"X-B: 1\r\n\r\n")


def test_other_settings_forget_what_was_learned() -> None:
    heads = RequestHeads(NAMES)
    for number in range(20):
        heads.read(PLAIN + b"X-Tenant: %d\r\n\r\n" % number)
    assert heads.read(PLAIN + b"X-Tenant: z\r\n\r\n")[2] == b"X-Tenant: z\r\n"
    heads.adopt(Names({b"x-tenant"}))
    head, _, lines, _ = heads.read(PLAIN + b"X-Tenant: z\r\n\r\n")
    assert (head.get(b"x-tenant"), lines) == (b"z", b"")


def test_no_head_outlives_the_settings_that_it_was_read_under() -> None:
    heads, raw = RequestHeads(NAMES), PLAIN + b"Content-Length: 3\r\n\r\n"
    before = heads.read(raw)[0]
    before.base.notes = "what it meant"
    assert heads.read(raw)[0] is before
    heads.adopt(NAMES)
    assert len(heads) == 0
    assert heads.read(raw)[0].base.notes is None


def test_what_is_remembered_is_bounded_in_bytes() -> None:
    heads = RequestHeads(NAMES)
    for number in range(2000):
        heads.read(PLAIN + b"Authorization: %d%b\r\n\r\n" % (number, b"a" * 4000))
    assert len(heads) < 600


@pytest.mark.parametrize(
    "lines",
    [
        b"Content-Length: 1\r\nContent-Length: 2\r\n",
        b"Content-Length: 1\r\ncontent-length: 1\r\n",
        b"Content-Length: 1\r\n folded\r\n",
        b"Content-Length: 1\r\n\tfolded\r\n",
        b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n",
        b"Transfer-Encoding: chunked\r\nContent-Length: 1\r\n",
        b"Content-Length : 1\r\n",
        b"Content-Length: 1 \r\nContent-Length: 1\r\n",
        b"Content-Length: 1\r\nContent-Length:2\r\n",
    ],
)
def test_what_is_taken_out_to_remember_a_head_hides_no_ambiguity(lines) -> None:
    heads = RequestHeads(NAMES)
    heads.read(PLAIN + b"\r\n")
    for _ in range(2):
        with pytest.raises(ProtocolError):
            heads.read(PLAIN + lines + b"\r\n")


def test_a_trace_inside_another_line_is_that_lines_own() -> None:
    heads, odd = RequestHeads(NAMES), b"X-B: " + TRACE
    for _ in range(12):
        head, trace, lines, _ = heads.read(PLAIN + odd + TRACE + b"\r\n")
        assert trace == TRACE
        assert odd in [line for _, line in head.onward] + [lines]


LINES = st.sampled_from(
    [
        b"Content-Length: 5",
        b"content-length: 5",
        b"Content-Length: 7",
        b"Content-Length:5",
        b"Content-Length: 5 ",
        b"Content-Length: 05",
        b"Content-Length: 5, 5",
        b"Content-Length : 5",
        b"CONTENT-LENGTH: 5",
        b"Content-Length: 1234567890123456",
        b"Content_Length: 5",
        b"Transfer-Encoding: chunked",
        TRACE.rstrip(),
        TRACE.rstrip().replace(b"trace", b"Trace"),
        TRACE.rstrip().replace(b"4736", b"4737"),
        TRACE.rstrip() + b" ",
        TRACE.rstrip().replace(b": ", b":"),
        TRACE.rstrip().replace(b": ", b":x"),
        TRACE.rstrip().replace(b"-01", b"-0\x01"),
        TRACE.rstrip().replace(b"4736", b"47\r6"),
        b"X-B: " + TRACE.rstrip(),
        b"traceparent: 00-x",
        b" folded",
        b"\tfolded",
        b"no colon",
        b"X-Request-Id",
        b"X-A",
        b"Date",
        b": nameless",
        b"Bad Name: a",
        b"X" * 70 + b": a",
        b"X-A: Content-Length: 5",
        b"X-A: a\n",
        b"X-A: a\r",
        b"Connection: close",
        b"Connection: X-A",
        b"Connection: X-Request-Id, mcp-param-a",
        b"Connection: authorization",
        b"Connection: traceparent",
        b"Expect: 100-continue",
        b"Host: b",
        b"Authorization: a",
        b"Authorization: b",
        b"X_Consumer: a",
        b"X-Forwarded-For: 1.1.1.1",
        b"X-Forwarded-For: 2.2.2.2",
        b"X-Forwarded-For:",
        b"x-forwarded-for:3.3.3.3 ",
        b"X-Forwarded-For: a\x01",
        b"X_Forwarded_For: 1.1.1.1",
        b"X-Real-IP: 4.4.4.4",
        b"X-Forwarded-Host: h",
    ]
) | st.builds(
    lambda name, value: name + b": " + value,
    st.sampled_from([b"X-Request-Id", b"x-request-id", b"X-A", b"Mcp-Param-A", b"User-Agent", b"Authorization"]),
    st.sampled_from([b"%d" % n for n in range(12)] + [b"", b"\x01", b"a\tb", b"\xff"]),
)  # fmt: skip


def said(head: RequestHead, trace: bytes, lines: bytes, apart: tuple[bytes, ...]) -> object:
    """What a head says, whatever it is held in."""
    passed = [line for _, line in head.onward] + lines.splitlines(keepends=True) + [trace] * bool(trace)
    by_name: dict[bytes, list[bytes]] = {}
    for line in passed:
        by_name.setdefault(line.partition(b":")[0].lower(), []).append(line)
    asked = (b"host", b"authorization", b"content-type", b"x-consumer")
    fields = {name: head.values(name) for name in asked if head.names.reads(name)}
    return (
        head.method,
        head.target,
        head.length,
        head.chunked,
        head.keep_alive,
        head.expects,
        by_name,
        fields,
        apart,
    )


@given(
    learned=st.lists(st.lists(LINES, max_size=4), max_size=30),
    lines=st.lists(LINES, max_size=6),
    names=st.sampled_from([NAMES, Names(), Names({b"x-a", b"user-agent"})]),
)
def test_a_head_means_the_same_whatever_was_read_before(learned, lines, names) -> None:
    heads = RequestHeads(names)
    connection = Gathering(heads)
    for each in [*learned, lines, lines]:
        means_the_same(heads, each, connection)


@given(
    shape=st.lists(LINES, max_size=3),
    at=st.integers(0, 3),
    others=st.lists(st.lists(LINES, max_size=4), min_size=1, max_size=8),
)
def test_a_head_means_the_same_where_others_were_known_without_what_varies(shape, at, others) -> None:
    heads = RequestHeads(NAMES)
    connection = Gathering(heads)
    for number in range(3 * VARIES_AFTER):
        vary = [
            b"X-Request-Id: %d" % number,
            b"X-Forwarded-For: 1.1.1.%d" % number,
            TRACE.rstrip().replace(b"4736", b"%04x" % number),
        ]
        means_the_same(heads, [*shape[:at], *vary[: 1 + number // VARIES_AFTER], *shape[at:]], connection)
    for lines in others:
        means_the_same(heads, [*shape[:at], *lines, *shape[at:]], connection)


VALUES = [
    b" 1",
    b"",
    b" ",
    b"\t2",
    b" \xff",
    b" \x01",
    b" a\rb",
    b" a\nb",
    b" 3\r\nX-Real-IP: 5",
    b" 4\r\n",
]
TRACES = [TRACE[12:-2], TRACE[12:-3], TRACE[12:-3] + b"\x01", TRACE[12:-2] + b"\r\n" + TRACE[:-2]]


@given(values=st.lists(st.sampled_from(VALUES), min_size=3, max_size=3), trace=st.sampled_from(TRACES))
def test_what_fits_a_connections_last_head_means_the_same(values, trace) -> None:
    heads = RequestHeads(NAMES)
    connection = Gathering(heads)

    def of(one: bytes, two: bytes, three: bytes, traced: bytes = TRACES[0]) -> list[bytes]:
        lines = [b"X-R:" + one, b"X-Real-IP:" + two, b"X-B: 1", b"X-Real-IP:" + three]
        return [*lines, b"traceparent:" + traced]

    for number in range(3 * VARIES_AFTER):
        means_the_same(heads, of(b" %d" % number, b"", b" 1.1.1.%d" % number), connection)
    means_the_same(heads, of(*values, trace), connection)
    means_the_same(heads, of(b" 1", b"", b" 4.4.4.4"), connection)


def test_a_connections_head_is_known_though_its_client_differs_from_the_last_one() -> None:
    heads, seen = RequestHeads(NAMES), []
    connection = Gathering(heads)
    for number in range(40):
        read_by(connection, gateway(7, more=b"X-Real-IP: 10.1.1.%d\r\n" % number))
        assert connection.apart == (b"10.0.0.7", b"10.1.1.%d" % number)
        seen.append(connection.head)
    assert len({id(head) for head in seen[VARIES_AFTER + 3 :]}) == 1


def read_by(connection: Gathering, raw: bytes) -> None:
    connection.take_head(raw, Guest(Connections(lambda _: None, 1, 1 << 30, 1 << 30)), 1 << 62)
    connection.forget_body()


def means_the_same(heads: RequestHeads, lines: list[bytes], connection: Gathering | None = None) -> None:
    """Same fields, same refusals, as when it is parsed whole by itself; on a connection, too."""
    raw = PLAIN + b"".join(line + b"\r\n" for line in lines) + b"\r\n"
    raw = raw[: raw.index(b"\r\n\r\n") + 4]
    try:
        whole = RequestHead(raw, heads.names)
    except ProtocolError as refused:
        with pytest.raises(ProtocolError) as again:
            heads.read(raw)
        assert again.value.status == refused.status
        if connection is not None:
            with pytest.raises(ProtocolError):
                read_by(connection, raw)
        return
    meant = said(whole, b"", b"", whole.apart)
    assert said(*heads.read(raw)) == meant, raw
    if connection is not None:
        read_by(connection, raw)
        assert connection.head is not None
        assert said(connection.head, connection.trace, connection.lines, connection.apart) == meant, raw


def test_a_head_of_too_many_lines_is_refused_whatever_was_learned() -> None:
    heads = RequestHeads(NAMES)
    for number in range(20):
        heads.read(PLAIN + b"X-R: %d\r\n\r\n" % number)
    with pytest.raises(ProtocolError) as refused:
        heads.read(PLAIN + b"".join(b"X-R: %d\r\n" % n for n in range(MAX_LINES)) + b"\r\n")
    assert refused.value.status == 431


@pytest.mark.parametrize("name", [b"X-Request-Id", b"Content-Length", b"traceparent", b"X-Forwarded-For"])
def test_a_line_without_a_colon_is_refused_though_its_name_is_known(name) -> None:
    heads = RequestHeads(NAMES)
    for number in range(20):
        heads.read(gateway(number))
    for _ in range(2):
        with pytest.raises(ProtocolError):
            heads.read(PLAIN + name + b"\r\n\r\n")
