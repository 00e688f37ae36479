"""The door of the data port: makes an exchange of each request, and answers what is none."""

from __future__ import annotations

from mcpace_sidecar.call import endpoint, refusals
from mcpace_sidecar.call.answer import Answer
from mcpace_sidecar.call.call import Call
from mcpace_sidecar.call.context import Context
from mcpace_sidecar.call.exchange import Exchange
from mcpace_sidecar.call.plane import Plane
from mcpace_sidecar.call.refusals import Refusal
from mcpace_sidecar.call.settings import Settings
from mcpace_sidecar.errors import ProtocolError
from mcpace_sidecar.http.head import RequestHead
from mcpace_sidecar.http.known import RequestHeads
from mcpace_sidecar.http.server import ClientConnection
from mcpace_sidecar.identity.callers import Via


class DataPort:
    """The `Application` of the data port."""

    def __init__(self, plane: Plane) -> None:
        self.plane = plane
        settings = plane.settings
        self.heads = RequestHeads(settings.names)
        self.max_request_bytes: int = settings.max_request_bytes
        self.idle_timeout: float = settings.idle_timeout

    @property
    def draining(self) -> bool:
        """Whether clients are sent elsewhere with their next answer."""
        return self.plane.draining

    def adopt(self, settings: Settings) -> None:
        """Use these settings from the next call on."""
        self.plane.adopt(settings)
        self.heads.adopt(settings.names)
        self.max_request_bytes = settings.max_request_bytes
        self.idle_timeout = settings.idle_timeout

    def judge_head(self, connection: ClientConnection, head: RequestHead) -> bool:
        """Answer a request whose body is still to come, if its head alone says how."""
        return self.exchange(connection, head, b"").refused()

    def on_request(self, connection: ClientConnection, head: RequestHead, body: bytes) -> Answer | None:
        """Answer a request, or return the answer that will come."""
        exchange = self.exchange(connection, head, body)
        self.plane.in_flight.add(exchange.answer)
        exchange.start()
        answer = exchange.answer
        return None if answer.ended else answer

    def exchange(self, connection: ClientConnection, head: RequestHead, body: bytes) -> Exchange:
        """What a request is made into, still to be started."""
        plane = self.plane
        settings, read = plane.settings, connection.request
        apart = read.apart if settings.all_apart else _together(settings, read.apart, head)
        via: Via | None = connection.via
        if via is None or via.identities is not settings.identities or via.apart != apart:
            via = connection.via = settings.identities.via(connection.peer, apart)
        # What is posted to an open stream's endpoint is the stream's, whatever the path, the GET's own too.
        paired = settings.pair and head.method == b"POST" and self._is_of_stream(head.target)
        context: Context | None = head.base.notes
        if (
            context is None
            or context.settings is not settings
            or context.believed != via.believed
            or context.paired != paired
        ):
            context = Context(
                settings, plane.pool.address, head.base, loopback=plane.loopback, believed=via.believed,
                paired=paired, sessions=plane.table if settings.continues else None,
            )  # fmt: skip
            head.base.notes = context
        connection.rewriter = context.grant
        lines = via.lines + read.lines if read.lines else via.lines
        return Exchange(plane, connection, Call(context, via, head, body, read.trace, lines))

    def _is_of_stream(self, target: bytes) -> bool:
        """Whether it is the endpoint of a stream of 2024-11-05, of this replica's or of another's."""
        plane = self.plane
        return target in plane.pairs or (plane.peers is not None and endpoint.name_of(target) != b"")

    def on_bad_request(self, error: ProtocolError) -> tuple[bytes, bytes]:
        """Count what is no HTTP, and say so, or that there is no room."""
        refusal = Refusal(refusals.OF_HTTP[error.reason], str(error))
        if error.status != 503:  # which is counted where there was no room
            self.plane.metrics.count(refusal.reason.metric, *refusal.labels)
        return refusals.JSON, refusal.body(b"null")

    def on_broken(self, error: Exception) -> tuple[bytes, bytes]:
        """Count and log what was raised where a request was gathered, and say so."""
        self.plane.faults.tell("connection", error)
        return refusals.JSON, refusals.broken().body(b"null")


def _together(settings: Settings, apart: tuple[bytes, ...], head: RequestHead) -> tuple[bytes, ...]:
    """All that identities want to know apart, some of which `varyOn` keeps in the head."""
    given = dict(zip(settings.names.apart, apart, strict=False))
    names = settings.identities.apart
    values = tuple(
        given.get(name, b"")
        if name in settings.names.apart
        else b"\n".join(filter(None, head.values(name)))
        for name in names
    )
    return values if any(values) else ()
