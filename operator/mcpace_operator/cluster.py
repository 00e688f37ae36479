"""The API server, as far as the operator speaks to it: dicts in, dicts out."""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator, Mapping
from typing import Any, Final
from urllib.parse import urlencode

from kubernetes.aio import client, config

from mcpace_operator.drift import MANAGER
from mcpace_operator.models import API_VERSION, KIND, PLURAL
from mcpace_sidecar.errors import McpaceError

CONNECTIONS: Final = 32
"""At once; the knee of what one API server takes."""
TIMEOUT: Final = 15.0
_PAGE: Final = 250

RESOURCES: Final = {
    KIND: (API_VERSION, PLURAL),
    "Deployment": ("apps/v1", "deployments"),
    "Service": ("v1", "services"),
    "ConfigMap": ("v1", "configmaps"),
    "ServiceAccount": ("v1", "serviceaccounts"),
    "Secret": ("v1", "secrets"),
    "Pod": ("v1", "pods"),
}
"""Kind -> (apiVersion, plural)."""


class ApiError(McpaceError):
    """The API server refused; `status` is its HTTP status."""

    def __init__(self, status: int, words: str) -> None:
        super().__init__(words)
        self.status = status


class Cluster:
    """A connection to the API server."""

    def __init__(self, api: client.ApiClient) -> None:
        self._api = api

    @classmethod
    async def connect(cls) -> Cluster:
        """As the pod's service account, or else as the kubeconfig says."""
        configuration = client.Configuration()
        if "KUBERNETES_SERVICE_HOST" in os.environ:
            config.load_incluster_config(client_configuration=configuration)
        else:
            await config.load_kube_config(client_configuration=configuration)
        configuration.connection_pool_maxsize = CONNECTIONS
        return cls(client.ApiClient(configuration))

    async def close(self) -> None:
        """Close every connection."""
        await self._api.close()

    async def apply(self, body: Mapping[str, Any], *, force: bool, subresource: str = "") -> dict[str, Any]:
        """Server-side apply, and return the object; without `force`, others' fields are a conflict."""
        metadata = body["metadata"]
        path = _path(body["kind"], metadata["namespace"], metadata["name"]) + subresource
        query = {"fieldManager": MANAGER, "force": "true" if force else "false"}
        return await self._request("PATCH", path, query, body, "application/apply-patch+yaml")

    async def annotate(self, kind: str, namespace: str, name: str, annotations: Mapping[str, str]) -> None:
        """Write annotations of an object that is not ours."""
        body = {"metadata": {"annotations": annotations}}
        query = {"fieldManager": MANAGER}
        await self._request(
            "PATCH", _path(kind, namespace, name), query, body, "application/merge-patch+json"
        )

    async def items(
        self, kind: str, *, namespace: str | None = None, selector: str = "", name: str = ""
    ) -> AsyncIterator[dict[str, Any]]:
        """Every object of a kind, or the one of that name, page by page."""
        query = {"limit": str(_PAGE)}
        if name:
            query["fieldSelector"] = f"metadata.name={name}"
        if selector:
            query["labelSelector"] = selector
        while True:
            page = await self._request("GET", _path(kind, namespace), query)
            for item in page.get("items") or []:
                yield item
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
    ) -> dict[str, Any]:
        headers = {"Accept": "application/json", "Content-Type": content_type}
        # A service account's token is renewed by the kubelet, so it is asked for each time.
        await self._api.update_params_for_auth(headers, [], ["BearerToken"], path, method, body)
        url = f"{self._api.configuration.host}{path}?{urlencode(query)}"
        response = await self._api.rest_client.request(
            method, url, headers=headers, body=body, _request_timeout=TIMEOUT
        )
        answer = json.loads(await response.read())
        if response.status >= 400:
            raise ApiError(response.status, answer.get("message") or f"HTTP {response.status}")
        return dict(answer)


def _path(kind: str, namespace: str | None, name: str = "") -> str:
    version, plural = RESOURCES[kind]
    root = f"/apis/{version}" if "/" in version else f"/api/{version}"
    where = f"/namespaces/{namespace}" if namespace is not None else ""
    return f"{root}{where}/{plural}" + (f"/{name}" if name else "")
