"""One server, from what is observed to what should be: gather, decide, apply what differs, say so."""

from __future__ import annotations

import time
from datetime import UTC, datetime

from mcpace_operator.children.context import Context, Credentials
from mcpace_operator.cluster.client import Cluster
from mcpace_operator.cluster.namespaces import Namespaces
from mcpace_operator.cluster.observed import Observed
from mcpace_operator.polling.pods import Pods
from mcpace_operator.reconcile.apply import Applied, Applier
from mcpace_operator.reconcile.publisher import Publisher
from mcpace_operator.resource.models import McpServerSpec, parse_spec
from mcpace_operator.resource.server import Key, Server
from mcpace_operator.resource.workload import Deployment
from mcpace_operator.settings import OperatorSettings
from mcpace_operator.status.document import invalid, status
from mcpace_operator.status.news import Events
from mcpace_operator.status.seen import Seen, Told, Trouble
from mcpace_operator.stores.redis import Stores
from mcpace_sidecar.errors import ConfigError, StoreError


class Reconciler:
    """Level-triggered and idempotent: what it does depends on what is, never on what happened."""

    def __init__(
        self,
        cluster: Cluster,
        observed: Observed,
        stores: Stores,
        settings: OperatorSettings,
        pods: Pods,
    ) -> None:
        self._observed = observed
        self._stores = stores
        self._settings = settings
        self._pods = pods
        self._namespaces = Namespaces(cluster)
        events = Events(cluster)
        self._applier = Applier(cluster, observed, events)
        self._publisher = Publisher(cluster, observed, events)
        self._users: dict[Key, Server] = {}
        """Whoever was given credentials."""

    async def reconcile(self, key: Key) -> None:
        """Bring one server to where it should be; ApiError or StoreError to be tried again."""
        server = self._observed.servers.get(key)
        if server is None:
            await self._gone(key)
        elif server.deleting:
            self._let_go(server)
        elif server.manager not in ("", self._settings.instance):
            self._pods.forget(key)
            await self._publisher.leave(server)
        else:
            await self._keep(server)

    async def _keep(self, server: Server) -> None:
        try:
            spec = parse_spec(server.spec)
        except ConfigError as error:
            await self._publisher.say(server, invalid(server, str(error), datetime.now(UTC)))
            return
        context, lacking = await self._gather(server, spec)
        outcome = Applied(again=lacking) if lacking is not None else await self._applier.bring(context)
        deployment = self._observed.deployment(server.key) or Deployment()
        self._pods.want(context, deployment)
        seen = self._see(context, deployment, outcome.trouble)
        await self._publisher.say(server, status(seen, datetime.now(UTC)))
        if outcome.again is not None:
            raise outcome.again

    async def _gather(self, server: Server, spec: McpServerSpec) -> tuple[Context, StoreError | None]:
        """All that children are made from; and why there are no credentials, where there are none."""
        credentials, lacking = Credentials(), None
        try:
            credentials = await self._stores.credentials(server)
            self._users[server.key] = server
        except StoreError as error:
            lacking = error
        restricted = await self._namespaces.restricted(server.key.namespace)
        kinds = self._observed.kinds
        return Context(server, spec, self._settings, credentials, kinds, restricted), lacking

    def _see(self, context: Context, deployment: Deployment, stopped: Trouble | None) -> Seen:
        """All that is known of it now."""
        key = context.server.key
        return Seen(
            context,
            deployment,
            limits=self._stores.state(self._stores.limits, key),
            cache=self._stores.state(self._stores.cache, key),
            told=self._pods.told.get(key, Told()),
            stopped=stopped,
            contested=self._applier.repairs.contested(key, time.monotonic()),
            altered=self._observed.altered(key),
            autoscaler=self._observed.scaling(key),
        )

    def _let_go(self, server: Server) -> None:
        """What it owned is being taken, and nothing must be put back."""
        self._pods.forget(server.key)
        if server.manager == self._settings.instance:
            self._users[server.key] = server  # it may have waited since before we started

    async def _gone(self, key: Key) -> None:
        self._pods.forget(key)
        self._applier.forget(key)
        server = self._users.pop(key, None)
        if server is not None:
            await self._stores.drop(server)
