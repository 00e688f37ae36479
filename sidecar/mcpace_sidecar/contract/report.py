"""What a sidecar answers to `/stats` and `/readyz`: written with these models, and read with them.

A pod may be anybody's program. An answer that is not as a sidecar's must be, in shape or in size, is
refused whole. Unknown members are passed over, because a sidecar may be newer than its operator, and
what came later than the first version has a default, because it may be older.
"""

from __future__ import annotations

from typing import Annotated, Final

from msgspec import Meta, Struct

BUCKETS: Final = 600
"""Buckets of a histogram of durations; the last one holds eight weeks."""

VERSION: Final = 1
"""Of the report: counted up where what a member means has changed."""

Count = Annotated[int, Meta(ge=0, le=1 << 53)]
Amount = Annotated[float, Meta(ge=0, le=1e12)]
Word = Annotated[str, Meta(max_length=1024)]
Names = Annotated[tuple[Word, ...], Meta(max_length=10_000)]


class Counted(Struct, frozen=True, rename="camel"):
    """What was counted of one tool in five minutes."""

    count: Count
    errors: Count
    limited: Count
    hits: Count
    sent_bytes: Count
    calls_per_second: Amount
    histogram: dict[Annotated[int, Meta(ge=0, lt=BUCKETS)], Count]
    """Bucket -> answered calls; see `mcpace_sidecar.contract.histogram`."""
    received_bytes: Count = 0
    error_rate: Amount = 0.0
    """Part of the calls that ended as errors, 0 to 1."""
    p50: Amount | None = None
    p95: Amount | None = None
    p99: Amount | None = None
    """Seconds; None where nothing was answered."""


class Slice(Struct, frozen=True):
    """What was answered in one half minute, which may not be over yet."""

    seconds: Amount
    """That it has lasted so far."""
    count: Count
    """Calls that ended in it."""
    p50: Amount | None = None
    p95: Amount | None = None
    p99: Amount | None = None


Slices = Annotated[tuple[Slice, ...], Meta(max_length=64)]
"""The oldest first."""


class Recent(Struct, frozen=True):
    """How the five minutes went, for whoever draws it."""

    together: Counted
    """All tools."""
    slices: Slices
    tools: Annotated[dict[Word, Slices], Meta(max_length=256)]
    """The same of each of the busiest."""


class CountedDoor(Struct, frozen=True, rename="camel"):
    """One egress door."""

    requests: Count
    connections: Count
    """Opened in all."""


class ServerInfo(Struct, frozen=True, rename="camel"):
    """What the server said of itself in its handshake."""

    name: Word
    version: Word
    protocol_version: Word


class Finding(Struct, frozen=True):
    """A rule of the manifest that does nothing, and why.

    `message` begins with its path in the manifest's spec.
    """

    reason: Word
    message: Word


class Slots(Struct, frozen=True, rename="camel"):
    """How many calls are worked on at once; `of` is None where nothing bounds them."""

    taken: Count = 0
    of: Count | None = None
    queued: Count = 0
    queue_of: Count = 0


class Kept(Struct, frozen=True, rename="camel"):
    """Results that this replica has in memory."""

    results: Count = 0
    bytes: Count = 0
    of_bytes: Count = 0


class Pooled(Struct, frozen=True):
    """Connections to the server."""

    open: Count
    idle: Count
    of: Count
    """Those of calls; streams come on top."""
    waiting: Count
    """Requests that wait for one."""
    opened: Count
    """In all."""


class Item(Struct, frozen=True):
    """One of the checklist, judged: `mend` is what to write in the manifest."""

    name: Word
    result: Word
    """Passed, Failed or Unknown."""
    evidence: Word
    mend: Word = ""


class Limited(Struct, frozen=True):
    """Calls refused by one limit since the start."""

    tier: Word
    limit: Word
    calls: Count


class Processes(Struct, frozen=True, rename="camel"):
    """Those of a server of stdio."""

    running: Count = 0
    starting: Count = 0
    waiting: Count = 0
    """Sessions, or calls of `shared`, that wait for one."""
    starts: Count = 0
    """In all, as what follows."""
    failed: Annotated[dict[Word, Count], Meta(max_length=64)] = {}
    """Starts that failed, by reason."""
    crashes: Count = 0
    """Those that had answered, and ended unasked."""
    junk_lines: Count = 0
    """Lines of standard output that were no messages."""
    problem: Word = ""
    """Why the last one that never answered did not; empty since one has."""


class Report(Struct, frozen=True, rename="camel"):
    """The answer to `/stats`."""

    calls: Annotated[dict[Word, Counted], Meta(max_length=10_000)]
    version: Count = 0
    """0 of a sidecar that did not say it yet."""
    window_seconds: Amount = 0
    """What `calls` were counted in."""
    server: ServerInfo | None = None
    tools: Names = ()
    read_only_tools: Names = ()
    scraped_seconds_ago: Amount | None = None
    doors: Annotated[dict[Word, CountedDoor], Meta(max_length=256)] = {}
    missing_secrets: Annotated[tuple[Word, ...], Meta(max_length=256)] = ()
    unknown_fields: Names = ()
    """Fields of the configuration that the sidecar, being older than they, does without."""
    in_flight: Annotated[dict[Word, Count], Meta(max_length=10_000)] = {}
    findings: Annotated[tuple[Finding, ...], Meta(max_length=5000)] = ()
    slots: Slots = Slots()
    sessions: Count = 0
    """Of clients before 2026-07-28, as far as this replica has heard."""
    relays: bool = False
    """Whether what belongs to a session of another replica is passed on to that one."""
    processes: Processes | None = None
    sidecar: Word = ""
    """Its version."""
    uptime_seconds: Amount = 0
    ready: bool = True
    problem: Annotated[str, Meta(max_length=8192)] = ""
    """Why it is not ready."""
    cache: Kept = Kept()
    pool: Pooled | None = None
    """None where the server is reached over stdio."""
    breakers: Names = ()
    """Tools whose circuit breaker is open; the whole server's is called by no name."""
    limited: Annotated[tuple[Limited, ...], Meta(max_length=10_000)] = ()
    stores: Annotated[dict[Word, bool], Meta(max_length=8)] = {}
    """Whether each Redis answers; none where all is kept in memory."""
    checklist: Annotated[tuple[Item, ...], Meta(max_length=64)] = ()
    """On a laptop, in the answer to `/stats?recent`; elsewhere the operator judges."""
    recent: Recent | None = None
    """In the answer to `/stats?recent` alone."""


class Left(Struct, frozen=True, rename="camel"):
    """What a client has left of one limit."""

    limit: Word
    """`minute`, `day`, or what is called: `tool forecast`."""
    of: Count
    left: Amount
    whole_seconds: Amount
    """Until it is whole again, if nobody calls."""


class ClientLeft(Struct, frozen=True):
    """What a client has left of its limits."""

    client: Word
    tier: Word
    limits: Annotated[tuple[Left, ...], Meta(max_length=10_000)]


class ClientsLeft(Struct, frozen=True):
    """The answer to `/limits`: those who have used most of theirs first."""

    clients: Annotated[tuple[ClientLeft, ...], Meta(max_length=1000)] = ()
    more: Count = 0
    """Clients that are known, and not told of."""
    limited: bool = True
    """Whether the manifest has `rateLimits`."""
    shared: bool = False
    """Whether all replicas count together, in a Redis that answers."""


class Readiness(Struct, frozen=True, omit_defaults=True):
    """The answer to `/readyz`."""

    ready: bool
    reason: Annotated[str, Meta(max_length=8192)] = ""
