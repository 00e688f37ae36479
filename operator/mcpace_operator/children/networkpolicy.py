"""The NetworkPolicy: calls come by the sidecar or not at all."""

from __future__ import annotations

from typing import Any

from mcpace_operator.children import relay
from mcpace_operator.children.context import Context
from mcpace_sidecar.contract.addresses import RedisAddress


def build(context: Context) -> dict[str, Any] | None:
    """The policy, where the manifest asks for it. The server's own port is open to nobody."""
    wanted = context.spec.network_policy
    if wanted is None or not wanted.enabled:
        return None
    settings, ports = context.settings, context.spec.sidecar
    callers = list(wanted.from_ or settings.callers)
    own = {"podSelector": {"matchLabels": context.selector}}  # a server may call itself by its Service
    ingress = [
        {"ports": [_tcp(ports.port)], **({"from": [*callers, own]} if callers else {})},
        {"ports": [_tcp(ports.admin_port)], "from": [*settings.watchers]},
    ]
    if not settings.watchers:  # an empty list of peers would be everybody
        ingress.pop()
    between = relay.port(context)
    if between is not None:
        ingress.append({"ports": [_tcp(between)], "from": [own]})
    spec: dict[str, Any] = {
        "podSelector": {"matchLabels": context.selector},
        "policyTypes": ["Ingress"],
        "ingress": ingress,
    }
    if wanted.egress is not None:
        spec["policyTypes"] = ["Ingress", "Egress"]
        spec["egress"] = [*_always(context), *wanted.egress]
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": context.metadata(),
        "spec": spec,
    }


def _always(context: Context) -> list[dict[str, Any]]:
    """What every pod needs: names, the shared stores, its own kind."""
    urls = (context.credentials.limits_url, context.credentials.cache_url)
    stores = sorted({port for url in urls if url is not None for port in RedisAddress(url).ports})
    return [
        {"ports": [{"protocol": "UDP", "port": 53}, _tcp(53)]},
        *([{"ports": [_tcp(port) for port in stores]}] if stores else []),
        {
            "ports": [_tcp(port) for port in (context.spec.sidecar.port, relay.port(context)) if port],
            "to": [{"podSelector": {"matchLabels": context.selector}}],
        },
    ]


def _tcp(port: int) -> dict[str, Any]:
    return {"protocol": "TCP", "port": port}
