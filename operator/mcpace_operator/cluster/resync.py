"""Reading the whole cluster: what watching has missed, and which kinds there are."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterable
from typing import Final

from mcpace_operator.cluster.client import ApiError, Cluster
from mcpace_operator.cluster.kinds import WATCHED
from mcpace_operator.cluster.observed import Observed
from mcpace_operator.comparison.drift import ChildId
from mcpace_operator.health import UNREAD
from mcpace_operator.queue import Queue
from mcpace_operator.resource.models import KIND
from mcpace_operator.resource.server import SELECTOR, Key
from mcpace_sidecar.contract.backoff import Backoff
from mcpace_sidecar.errors import ConfigError

log = logging.getLogger(__name__)

RESYNC: Final = 600.0
"""Seconds between two complete looks at the cluster: a deletion missed by a broken watch is seen then."""
DISCOVERY: Final = 15.0
"""Seconds between two questions for the optional kinds and their objects."""
_PAUSE: Final = 3.0
"""Seconds from a gap to the reading, and so at least between two readings."""
_FIRST, _LONGEST = 1.0, 10.0
"""Seconds until the first reading is tried again."""


class Resync:
    """Reads the whole cluster: at the start, every ten minutes, and when what it knows has changed."""

    def __init__(
        self,
        cluster: Cluster,
        observed: Observed,
        queue: Queue,
        namespaces: tuple[str, ...],
        changed: Callable[[], object] = lambda: None,
    ) -> None:
        """`changed` is called when `readable` has changed."""
        self._cluster = cluster
        self._observed = observed
        self._queue = queue
        self._namespaces: tuple[str | None, ...] = namespaces or (None,)
        self._changed = changed
        self._wanted = asyncio.Event()
        self.problem: str | None = "The cluster has not been read yet."
        """Why what is known of the cluster may be wrong."""
        self._refused: dict[str, ApiError] = {}

    @property
    def readable(self) -> tuple[str, ...]:
        """The namespaces that are watched and may be read; none is all.

        Who rules one of several can take the operator's rights there, and nothing else.
        """
        names = tuple(name for name in self._namespaces if name is not None)
        return tuple(name for name in names if name not in self._refused) or names

    def soon(self) -> None:
        """Something may have been missed."""
        self._wanted.set()

    async def often(self) -> None:
        """Read it every ten minutes, and soon after something may have been missed."""
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wanted.wait(), RESYNC)
                await asyncio.sleep(_PAUSE)  # a gap in one watch is seldom alone
            self._wanted.clear()
            try:
                await self.once()
            except ApiError as error:
                self._failed(error)
                log.warning("The cluster could not be read again: %s", error)
                self.soon()

    async def discover(self) -> None:
        """See which of the optional kinds come and go, and what became of their objects.

        kopf watches none of them: the end of a watch whose kind has gone takes all others with it.
        """
        while True:
            await asyncio.sleep(DISCOVERY)
            try:
                kinds = await self._cluster.kinds()
                if kinds != self._observed.kinds:
                    log.info("The cluster now knows %s", ", ".join(sorted(kinds)) or "no optional kinds")
                    gone, self._observed.kinds = self._observed.kinds - kinds, kinds
                    for kind in gone:
                        self._lose(self._known(kind), set())
                    self._queue.mark_all(self._observed.servers)
                _, refused = await self._read(kinds, near=True)
                self._refuse({**self._refused, **refused})
                if any([await self._may_read(namespace) for namespace in self._refused]):
                    self.soon()
            except ApiError as error:
                log.warning("The cluster could not be asked for its kinds: %s", error)

    async def first(self) -> None:
        """Read it until that succeeds. ConfigError where the CRD is missing."""
        again = Backoff(_FIRST, _LONGEST)
        while True:
            try:
                self._observed.kinds = await self._cluster.kinds()
                await self.once()
            except ApiError as error:
                if error.status == 404:
                    words = "The McpServer CRD is not installed: kubectl apply -f crds/mcpservers.yaml"
                    raise ConfigError(words) from error
                self._failed(error)
                log.warning("The cluster cannot be read yet: %s", error)
                await asyncio.sleep(again.next())
            else:
                return

    async def try_out(self) -> None:
        """Try whether what must be read may be, until it is: also while another operator leads."""
        again = Backoff(_FIRST, _LONGEST)
        while True:
            try:
                await self._try_out()
            except ApiError as error:
                self._failed(error)
                await asyncio.sleep(again.next())
            else:
                self.problem = None
                return

    async def _try_out(self) -> None:
        refusal: ApiError | None = None
        for namespace in self._namespaces:
            try:
                for kind in (KIND, *WATCHED):
                    await self._cluster.may_list(kind, namespace)
            except ApiError as error:
                refusal = error
            else:
                return
        if refusal is not None:
            raise refusal

    def _failed(self, error: ApiError) -> None:
        self.problem = f"The cluster cannot be read: {error}"

    async def once(self) -> None:
        """Read everything, page by page: what is there, and what is there no more."""
        observed = self._observed
        before = list(observed.servers)
        found, refused = await self._read((KIND, *WATCHED, *sorted(observed.kinds)))
        self._refuse(refused)
        for key in before:
            if (KIND, *key) not in found and key.namespace not in refused:
                observed.forget(key)
                self._queue.mark(key)
        self._queue.mark_all(observed.servers)
        self.problem = None

    async def _read(
        self, kinds: Iterable[str], *, near: bool = False
    ) -> tuple[set[tuple[str, str, str]], dict[str, ApiError]]:
        """Read these kinds; return what there is, as (kind, namespace, name), and what was refused.

        A namespace that may not be read is left as it was; ApiError where none may be, and for all else.
        """
        kinds = list(kinds)
        found: set[tuple[str, str, str]] = set()
        refused: dict[str, ApiError] = {}
        known = {kind: self._known(kind) for kind in kinds}
        for namespace in self._namespaces:
            try:
                found |= await self._read_one(kinds, namespace, near=near)
            except ApiError as error:
                if error.status != 403 or namespace is None or len(refused) + 1 == len(self._namespaces):
                    raise
                refused[namespace] = error
        for kind in kinds:
            self._lose([each for each in known[kind] if each[0].namespace not in refused], found)
        return found, refused

    def _refuse(self, refused: dict[str, ApiError]) -> None:
        before, self._refused = self._refused, refused
        for namespace in refused.keys() - before:
            log.warning("The namespace %s is left out: %s", namespace, refused[namespace])
        for namespace in before.keys() - refused:
            log.info("The namespace %s may be read again", namespace)
        UNREAD.set(len(refused))
        if before.keys() != refused.keys():
            self._changed()

    async def _may_read(self, namespace: str) -> bool:
        try:
            await self._cluster.may_list(KIND, namespace)
        except ApiError:
            return False
        return True

    async def _read_one(
        self, kinds: Iterable[str], namespace: str | None, *, near: bool
    ) -> set[tuple[str, str, str]]:
        found: set[tuple[str, str, str]] = set()
        for kind in kinds:
            selector = "" if kind == KIND else SELECTOR
            async for body in self._cluster.items(kind, namespace=namespace, selector=selector, near=near):
                found.add((kind, body["metadata"]["namespace"], body["metadata"]["name"]))
                keys = self._observed.see(kind, body, deleted=False)
                if near:
                    self._queue.mark_all(keys)
        return found

    def _known(self, kind: str) -> list[tuple[Key, ChildId]]:
        children = self._observed.children.items()
        return [(key, child_id) for key, own in children for child_id in own if child_id.kind == kind]

    def _lose(self, known: Iterable[tuple[Key, ChildId]], found: set[tuple[str, str, str]]) -> None:
        """Forget the children that were known and are not found."""
        for key, child_id in known:
            if (child_id.kind, key.namespace, child_id.name) not in found:
                self._observed.lose(key, child_id)
                self._queue.mark(key)
