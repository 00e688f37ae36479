"""One server, from what is observed to what should be: gather, decide, apply what differs, say so."""

from __future__ import annotations

import time
from datetime import UTC, datetime

from mcpace_operator.children.meta import Context, Credentials
from mcpace_operator.cluster.cache import Observed
from mcpace_operator.cluster.client import ApiError, Cluster
from mcpace_operator.cluster.namespaces import Namespaces
from mcpace_operator.probes.pods import Pods
from mcpace_operator.reconcile.apply import Applier, LateError
from mcpace_operator.reconcile.publisher import Publisher
from mcpace_operator.resource.models import parse_spec
from mcpace_operator.resource.server import Key, Server
from mcpace_operator.resource.workload import Deployment
from mcpace_operator.settings import OperatorSettings
from mcpace_operator.status.document import invalid, status
from mcpace_operator.status.events import Events
from mcpace_operator.status.reasons import Reason
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
            return
        if server.deleting:  # what it owned is being taken, and nothing must be put back
            self._pods.forget(key)
            if server.manager == self._settings.instance:
                self._users[key] = server  # it may have waited since before we started
            return
        if server.manager not in ("", self._settings.instance):
            self._pods.forget(key)
            await self._publisher.leave(server)
            return
        try:
            spec = parse_spec(server.spec)
        except ConfigError as error:
            await self._publisher.say(server, invalid(server, str(error), datetime.now(UTC)))
            return
        failure: Exception | None = None
        trouble: Trouble | None = None
        credentials = Credentials()
        try:
            credentials = await self._stores.credentials(server)
            self._users[key] = server
        except StoreError as error:
            failure = error
        restricted = await self._namespaces.restricted(key.namespace)
        context = Context(server, spec, self._settings, credentials, self._observed.kinds, restricted)
        if failure is None:
            try:
                trouble = await self._applier.apply(context)
            except LateError as error:
                failure = error
            except ApiError as error:
                trouble = Trouble(Reason.ApplyFailed, str(error))
                failure = None if error.final else error  # the next manifest may be another
            except Exception as error:  # noqa: BLE001 - because whatever it was, it is said, and tried again
                trouble = Trouble(Reason.ApplyFailed, _broken(error))
                failure = error
            if trouble is not None and trouble.reason is Reason.ChildConflict:
                failure = LateError(trouble.message)  # nobody tells us when those that are not ours go
        deployment = self._observed.deployment(key) or Deployment()
        self._pods.want(context, deployment)
        seen = Seen(
            context,
            deployment,
            limits=self._stores.state(self._stores.limits, key),
            cache=self._stores.state(self._stores.cache, key),
            told=self._pods.told.get(key, Told()),
            stopped=trouble,
            contested=self._applier.repairs.contested(key, time.monotonic()),
            altered=self._observed.altered(key),
            autoscaler=self._observed.scaling(key),
        )
        await self._publisher.say(server, status(seen, datetime.now(UTC)))
        if failure is not None:
            raise failure

    async def _gone(self, key: Key) -> None:
        self._pods.forget(key)
        self._applier.forget(key)
        server = self._users.pop(key, None)
        if server is not None:
            await self._stores.drop(server)


def _broken(error: Exception) -> str:
    kind = type(error).__name__
    return f"The operator itself failed ({kind}), and tries again: its log says where. Please report it."
