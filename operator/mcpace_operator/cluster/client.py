"""The API server, as far as the operator speaks to it: dicts in, dicts out."""

from __future__ import annotations

import logging
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlencode

import aiohttp
from yaml import YAMLError

from mcpace_operator.cluster.kinds import KINDS, OPTIONAL
from mcpace_operator.cluster.nesting import decoded
from mcpace_operator.comparison.additions import LOOKER, MANAGER, SCALER
from mcpace_operator.health import REQUESTS
from mcpace_sidecar.errors import ConfigError, McpaceError

if TYPE_CHECKING:
    from kubernetes.aio.client import ApiClient

log = logging.getLogger(__name__)

CONNECTIONS: Final = 32
"""At once; the knee of what one API server takes."""
TIMEOUT: Final = 15.0
LEASE: Final = "mcpace-operator"
LEASE_TIMEOUT: Final = 3.0
_PAGE: Final = 250
_APPLY: Final = "application/apply-patch+yaml"
_STRATEGIC: Final = "application/strategic-merge-patch+json"
_MERGE: Final = "application/merge-patch+json"


class ApiError(McpaceError):
    """The API server refused; `status` is its HTTP status, 0 where it was not reached."""

    def __init__(self, status: int, words: str) -> None:
        super().__init__(words)
        self.status = status

    @property
    def final(self) -> bool:
        """Whether the object itself is refused, so that the same one will be refused again.

        An unknown field is said with 500, because the server cannot even read the patch.
        """
        return self.status in (400, 422) or (self.status == 500 and "typed patch object" in str(self))


class Cluster:
    """A connection to the API server."""

    def __init__(self, api: ApiClient, namespace: str = "default") -> None:
        self._api = api
        self.namespace = namespace
        """Where a person means what they name, as the kubeconfig says."""

    @classmethod
    async def connect(cls, kubeconfig: str | None = None, context: str | None = None) -> Cluster:
        """As the pod's service account, or else as the kubeconfig says; ConfigError.

        `kubeconfig`, `context`: what a person has chosen, who is no pod's service account.
        """
        # Imported here because it takes seconds, and people's commands at a URL reach no cluster.
        from kubernetes.aio import client, config  # noqa: PLC0415 - because of that

        configuration = client.Configuration()
        namespace = "default"
        try:
            if not (kubeconfig or context) and "KUBERNETES_SERVICE_HOST" in os.environ:
                config.load_incluster_config(client_configuration=configuration)
            else:
                # The client reads KUBECONFIG when it is imported, and never again.
                file = kubeconfig or os.environ.get("KUBECONFIG")
                loader = await config.load_kube_config(
                    config_file=file, context=context, client_configuration=configuration
                )
                namespace = str(loader.current_context["context"].get("namespace") or namespace)
        except config.ConfigException as error:
            raise ConfigError(f"No cluster is known: {error}; name one by KUBECONFIG") from error
        except (YAMLError, ValueError, TypeError, AttributeError) as error:  # what is no kubeconfig at all
            raise ConfigError("The file that KUBECONFIG names is no kubeconfig") from error
        configuration.connection_pool_maxsize = CONNECTIONS
        configuration.trace_configs = [_never_elsewhere()]
        return cls(client.ApiClient(configuration), namespace)

    async def close(self) -> None:
        """Close every connection."""
        await self._api.close()

    async def create(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """Make an object by server-side apply; ApiError 409 where one of that name exists.

        No object is at version 1, so a body that claims to be can only be a new object's.
        """
        metadata = {**body["metadata"], "resourceVersion": "1"}
        return await self.apply({**body, "metadata": metadata})

    async def post(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """Make an object that nobody applies later; ApiError 409 where one of that name exists."""
        return await self._request("POST", _path(body["kind"], body["metadata"]["namespace"]), {}, body)

    async def apply(
        self,
        body: Mapping[str, Any],
        subresource: str = "",
        *,
        manager: str = MANAGER,
        dry_run: bool = False,
    ) -> dict[str, Any]:
        """Server-side apply, and return the object; fields that others own become ours."""
        metadata = body["metadata"]
        path = _path(body["kind"], metadata["namespace"], metadata["name"]) + subresource
        query = {"fieldManager": manager, "force": "true"} | ({"dryRun": "All"} if dry_run else {})
        return await self._request("PATCH", path, query, body, _APPLY)

    async def look(self, kind: str, namespace: str, name: str) -> Mapping[str, Any] | None:
        """The metadata of an object that we may only patch: an apply of nothing, as a dry run.

        None where there is no such object.
        """
        body = _named(kind, namespace, name)
        metadata = (await self.apply(body, manager=LOOKER, dry_run=True))["metadata"]
        return dict(metadata) if metadata.get("resourceVersion") else None

    async def labels(self, namespace: str) -> Mapping[str, str]:
        """The labels of a namespace."""
        answer = await self._request("GET", _path("Namespace", None, namespace), {})
        return dict(answer["metadata"].get("labels") or {})

    async def scale(self, namespace: str, name: str, replicas: int) -> dict[str, Any]:
        """Write a Deployment's replicas, and nothing else, under a name of its own; return it.

        A field once applied is reset when its manager leaves it out, and who scales may change.
        """
        body = {**_named("Deployment", namespace, name), "spec": {"replicas": replicas}}
        return await self.apply(body, manager=SCALER)

    async def delete(self, kind: str, namespace: str, name: str, uid: str, *, orphan: bool = False) -> None:
        """Delete the very object of that uid, if it is still there; `orphan` leaves what it owns."""
        body = {
            "preconditions": {"uid": uid},
            "propagationPolicy": "Orphan" if orphan else "Background",
        }
        try:
            await self._request("DELETE", _path(kind, namespace, name), {}, body)
        except ApiError as error:
            if error.status not in (404, 409):
                raise

    async def kinds(self) -> frozenset[str]:
        """Which of the optional kinds the cluster knows."""
        known = set()
        for version in sorted({KINDS[kind].api for kind in OPTIONAL}):
            try:
                answer = await self._request("GET", f"/apis/{version}", {})
            except ApiError as error:
                if error.status != 404:
                    raise
            else:
                known |= {resource["kind"] for resource in answer.get("resources") or []}
        return frozenset(known & set(OPTIONAL))

    async def annotate(self, kind: str, namespace: str, name: str, annotations: Mapping[str, str]) -> None:
        """Write annotations of an object that is not ours."""
        body = {"metadata": {"annotations": annotations}}
        query = {"fieldManager": MANAGER}
        await self._request("PATCH", _path(kind, namespace, name), query, body, _MERGE)

    async def take_away(
        self, kind: str, namespace: str, name: str, patch: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Remove what others added, by a strategic merge patch; return the object."""
        query = {"fieldManager": MANAGER}
        return await self._request("PATCH", _path(kind, namespace, name), query, patch, _STRATEGIC)

    async def tell(self, namespace: str, event: Mapping[str, Any]) -> None:
        """Write an Event."""
        version = KINDS["Event"].api
        body = {"apiVersion": version, "kind": "Event", **event}
        await self._request("POST", _path("Event", namespace), {}, body)

    async def lease(self, namespace: str) -> dict[str, Any] | None:
        """The Lease that elects an operator, or None."""
        try:
            return await self._request("GET", _path("Lease", namespace, LEASE), {}, seconds=LEASE_TIMEOUT)
        except ApiError as error:
            if error.status == 404:
                return None
            raise

    async def write_lease(self, namespace: str, spec: Mapping[str, Any], version: str) -> dict[str, Any]:
        """Write the Lease, unless somebody else has since `version`; ApiError 409 if so."""
        body = {**_named("Lease", namespace, LEASE), "spec": spec}
        if not version:
            path = _path("Lease", namespace)
            return await self._request("POST", path, {}, body, seconds=LEASE_TIMEOUT)
        body["metadata"]["resourceVersion"] = version
        path = _path("Lease", namespace, LEASE)
        return await self._request("PUT", path, {}, body, seconds=LEASE_TIMEOUT)

    async def read(self, path: str, **query: str) -> dict[str, Any]:
        """What the API server has at a path, in JSON; ApiError."""
        return await self._request("GET", path, query)

    @asynccontextmanager
    async def open(
        self,
        method: str,
        path: str,
        query: Mapping[str, str],
        body: Any = None,
        headers: Mapping[str, str] | None = None,
        seconds: float | None = TIMEOUT,
        silence: float | None = None,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Whatever is answered at a path, as it comes; ApiError where nobody answers.

        `seconds` that it may take in all; None: until it ends, or for so many of `silence` nothing comes.
        """
        sent = {"Accept": "*/*", "Content-Type": "application/json", **(headers or {})}
        endless = aiohttp.ClientTimeout(total=None, sock_connect=TIMEOUT, sock_read=silence)
        patience = seconds if seconds is not None else endless
        try:
            answer = await self._send(method, path, query, body, sent, patience)
            try:
                yield answer.response
            finally:
                answer.response.close()
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise _unreached(error) from None

    async def may_list(self, kind: str, namespace: str | None) -> None:
        """Whether objects of a kind may be listed; ApiError where not."""
        await self._request("GET", _path(kind, namespace), {"limit": "1"})

    async def items(
        self,
        kind: str,
        *,
        namespace: str | None = None,
        selector: str = "",
        name: str = "",
        near: bool = False,
    ) -> AsyncIterator[dict[str, Any]]:
        """Every object of a kind, or the one of that name, page by page.

        `near` takes what the API server has in its memory, perhaps a moment old, and all at once:
        pages of what a label selects would be looked for in etcd, among all the others.
        """
        version = KINDS[kind].api
        query = {"resourceVersion": "0"} if near else {"limit": str(_PAGE)}
        if name:
            query["fieldSelector"] = f"metadata.name={name}"
        if selector:
            query["labelSelector"] = selector
        while True:
            page = await self._request("GET", _path(kind, namespace), query)
            for item in page.get("items") or []:
                yield {"apiVersion": version, "kind": kind, **item}  # in lists, only the list has them
            cursor = (page.get("metadata") or {}).get("continue")
            if not cursor:
                return
            query["continue"] = cursor

    async def _request(
        self,
        method: str,
        path: str,
        query: Mapping[str, str],
        body: Any = None,
        content_type: str = "application/json",
        seconds: float = TIMEOUT,
    ) -> dict[str, Any]:
        headers = {"Accept": "application/json", "Content-Type": content_type}
        try:
            response = await self._send(method, path, query, body, headers, seconds)
            text = await response.read()
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            REQUESTS.labels(method, "none").inc()
            raise _unreached(error) from None
        REQUESTS.labels(method, str(response.status)).inc()
        try:
            answer = decoded(text)
        except ValueError:
            answer = None
        if not isinstance(answer, dict):  # a proxy's page, or `404 page not found`
            if response.status < 400:
                raise ApiError(502, "The API server's answer is no object in JSON")
            answer = {}
        if response.status >= 400:
            raise ApiError(response.status, answer.get("message") or f"HTTP {response.status}")
        return answer

    async def _send(
        self,
        method: str,
        path: str,
        query: Mapping[str, str],
        body: Any,
        headers: dict[str, str],
        patience: Any,
    ) -> Any:
        # A service account's token is renewed by the kubelet, so it is asked for each time.
        await self._api.update_params_for_auth(headers, [], ["BearerToken"], path, method, body)
        url = f"{self._api.configuration.host}{path}?{urlencode(query)}"
        return await self._api.rest_client.request(
            method, url, headers=headers, body=body, _request_timeout=patience
        )


def _never_elsewhere() -> aiohttp.TraceConfig:
    """An API server sends nobody elsewhere; a pod that it passes requests on to might."""

    async def refuse(*_: Any) -> None:
        raise aiohttp.ClientError("it sends elsewhere, where nobody goes")

    trace = aiohttp.TraceConfig()
    trace.on_request_redirect.append(refuse)
    return trace


def _unreached(error: Exception) -> ApiError:
    return ApiError(0, f"The API server was not reached: {str(error) or 'no answer in time'}")


def _path(kind: str, namespace: str | None, name: str = "") -> str:
    version, plural = KINDS[kind].api, KINDS[kind].plural
    root = f"/apis/{version}" if "/" in version else f"/api/{version}"
    where = f"/namespaces/{namespace}" if namespace is not None else ""
    return f"{root}{where}/{plural}" + (f"/{name}" if name else "")


def _named(kind: str, namespace: str, name: str) -> dict[str, Any]:
    """An object's head."""
    version = KINDS[kind].api
    return {"apiVersion": version, "kind": kind, "metadata": {"name": name, "namespace": namespace}}
