"""The pods: the server, the sidecar and what else stands beside it, under the manifest's `podTemplate`."""

from __future__ import annotations

import math
from typing import Any, Final

from mcpace_operator.children import pgbouncer, relay, secret, sidecar, stdio
from mcpace_operator.children.context import Context
from mcpace_operator.children.template import merged
from mcpace_operator.comparison.drift import CAUSE, fingerprint
from mcpace_operator.resource.scaling import Strategy
from mcpace_operator.resource.server import RELEASE
from mcpace_operator.resource.workload import GIVEN, WRITTEN
from mcpace_sidecar.contract.config import SidecarConfig
from mcpace_sidecar.contract.quantity import seconds
from mcpace_sidecar.contract.surface import RELAY_PORT, Path

GRACE: Final = 30
"""Seconds from the end of a drain in which the server ends, as long as Kubernetes gives any container."""
CPU_REQUEST: Final = "100m"
"""Of a server that is scaled by its CPU and requests none: utilization is a part of a request."""


def build(context: Context) -> dict[str, Any]:
    """The Deployment. How many replicas it has is written apart, because others may be the ones to say."""
    template = _template(context)
    noted = {
        CAUSE: fingerprint(_cause(context, template)),
        WRITTEN: fingerprint(secret.build(context)),
    }
    metadata = context.metadata() | {"annotations": noted}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": metadata,
        "spec": {
            "selector": {"matchLabels": context.selector},
            "strategy": _strategy(context.spec.strategy),
            "template": template,
        },
    }


def _strategy(wanted: Strategy) -> dict[str, Any]:
    if wanted.type == "Recreate":
        return {"type": wanted.type}
    surge, unavailable = wanted.max_surge, wanted.max_unavailable
    rolling = {
        "maxUnavailable": 0 if unavailable is None else unavailable,
        "maxSurge": "25%" if surge is None else surge,
    }
    return {"type": wanted.type, "rollingUpdate": rolling}


def _cause(context: Context, template: dict[str, Any]) -> dict[str, Any]:
    """What in the manifest the pods are made from. While it is the same, a newer operator rolls no pods."""
    if context.spec.sidecar.roll_on_upgrade:
        return template
    spec = context.spec
    written = spec.model_dump(
        by_alias=True, mode="json", exclude_unset=True, exclude=set(SidecarConfig.model_fields)
    )
    for name in ("replicas", "autoscaling", "podDisruptionBudget", "networkPolicy"):
        written.pop(name, None)
    # Not of the manifest, but without them there may be no pods at all; noted only where they are.
    needed = {
        "anyUser": not context.settings.fixed_user_ids,
        "pullSecrets": _pull_secrets(context),
        "demanded": _demanded(context),
    }
    written |= {name: value for name, value in needed.items() if value}
    if relay.port(context) != RELAY_PORT:
        written["relay"] = relay.port(context)
    if stdio.is_asked_for(context):
        written["stdio"] = stdio.memory(context)
    if "drain_timeout" in spec.model_fields_set:
        written["drainTimeout"] = spec.drain_timeout
    return written | {
        "scaledByCpu": _scaled_by_cpu(context),
        "secret": template["metadata"]["annotations"][GIVEN],
        "keys": sidecar.key_secrets(context),
        "cache": spec.cache.max_bytes if spec.cache else 0,
        "timeout": _waiting(context) if spec.database else "",
    }


def _waiting(context: Context) -> str:
    """How long queries wait for a connection; a default is noted as it first was, and rolls nothing."""
    upstream = context.spec.upstream
    return upstream.timeout if "timeout" in upstream.model_fields_set else "30s"


def _template(context: Context) -> dict[str, Any]:
    spec, labels = context.spec, context.metadata(labels={RELEASE: context.settings.release})["labels"]
    pod: dict[str, Any] = {
        "serviceAccountName": context.name,
        "automountServiceAccountToken": False,
        "terminationGracePeriodSeconds": math.ceil(seconds(spec.drain_timeout)) + GRACE,
        "topologySpreadConstraints": [
            _spread(context, "topology.kubernetes.io/zone"),
            _spread(context, "kubernetes.io/hostname"),
        ],
        # The sidecar first: what starts first ends last, and it has calls to bring to their end.
        "initContainers": [
            sidecar.container(context),
            *stdio.containers(context),
            *pgbouncer.containers(context),
        ],
        "containers": [_server(context)],
        "volumes": [
            *sidecar.volumes(context),
            *stdio.volumes(context),
            *pgbouncer.volumes(context),
            *spec.volumes,
        ],
    }
    if pull := [*spec.image_pull_secrets, *_pull_secrets(context)]:
        pod["imagePullSecrets"] = pull
    written = spec.pod_template
    pod = merged(pod, written.spec)
    for container in _objects(pod["initContainers"]):
        if container.get("name") in (sidecar.NAME, pgbouncer.NAME):
            container["restartPolicy"] = "Always"  # otherwise it would be awaited, and end no start
    return {
        "metadata": {
            "labels": {**written.metadata.labels, **labels},
            # Its environment comes from there, so pods start anew when it changes.
            "annotations": {
                **_past_meshes(context),
                **written.metadata.annotations,
                GIVEN: secret.told(context),
            },
        },
        "spec": pod,
    }


def _past_meshes(context: Context) -> dict[str, str]:
    """What a mesh leaves alone.

    The kubelet asks the admin port as the pod ends, and bears no certificate; sidecars have their own.
    Sources: https://istio.io/latest/docs/reference/config/annotations/,
    https://linkerd.io/2/reference/proxy-configuration/.
    """
    between = relay.port(context)
    inward = ",".join(str(port) for port in (context.spec.sidecar.admin_port, between) if port)
    outward = {
        "traffic.sidecar.istio.io/excludeOutboundPorts": str(between),
        "config.linkerd.io/skip-outbound-ports": str(between),
    }
    return {
        "traffic.sidecar.istio.io/excludeInboundPorts": inward,
        "config.linkerd.io/skip-inbound-ports": inward,
        **(outward if between else {}),
    }


def _server(context: Context) -> dict[str, Any]:
    spec = context.spec
    container: dict[str, Any] = {
        "name": "server",
        "image": spec.image,
        "terminationMessagePolicy": "FallbackToLogsOnError",  # its last words, for the status
        # Asked through the sidecar, so that a server may listen on the loopback alone. It has five minutes
        # to start, by a delay: a startup probe would cost each pod a second until the kubelet runs it.
        "livenessProbe": {
            **sidecar.probe(Path.SERVERZ, spec.sidecar.admin_port),
            "initialDelaySeconds": 180,
            "periodSeconds": 10,
            "timeoutSeconds": 5,
            "failureThreshold": 12,
        },
        "securityContext": _security(context),
        # Told to end when no call is in flight any more. The port is another container's: a number.
        "lifecycle": {"preStop": sidecar.probe(Path.DRAINED, spec.sidecar.admin_port)},
    }
    speaks_http = not stdio.is_asked_for(context)
    optional: dict[str, Any] = {
        "imagePullPolicy": spec.image_pull_policy,
        "ports": [{"name": "server", "containerPort": spec.port, "protocol": "TCP"}] * speaks_http,
        "command": stdio.command(context),
        "args": list(spec.args) * speaks_http,
        "env": merged(pgbouncer.environment(context), list(spec.env), "env"),
        "envFrom": list(spec.env_from),
        "volumeMounts": [*stdio.mounts(context), *spec.volume_mounts],
        "resources": _resources(context),
    }
    return container | {name: value for name, value in optional.items() if value}


def _security(context: Context) -> dict[str, Any]:
    asked = {"allowPrivilegeEscalation": False, "seccompProfile": {"type": "RuntimeDefault"}}
    return {**asked, **_demanded(context), **(context.spec.security_context or {})}


def _demanded(context: Context) -> dict[str, Any]:
    """What the namespace demands of the server's container, and the manifest does not say."""
    demanded = {"capabilities": {"drop": ["ALL"]}, "runAsNonRoot": True} if context.restricted else {}
    return {
        name: value for name, value in demanded.items() if name not in (context.spec.security_context or {})
    }


def _pull_secrets(context: Context) -> list[dict[str, Any]]:
    """Secrets of the release that the manifest does not name."""
    template = _objects(context.spec.pod_template.spec.get("imagePullSecrets"))
    names = [secret.get("name") for secret in (*context.spec.image_pull_secrets, *template)]
    return [{"name": name} for name in context.settings.pull_secrets if name not in names]


def _objects(written: Any) -> list[dict[str, Any]]:
    """The objects of a list, of what may be anything: the API server judges it."""
    return [each for each in written if isinstance(each, dict)] if isinstance(written, list) else []


def _resources(context: Context) -> dict[str, Any]:
    spec = context.spec
    chosen = spec.resources.model_dump(by_alias=True, exclude_none=True) if spec.resources else {}
    if _scaled_by_cpu(context) and not any(
        "cpu" in chosen.get(part, {}) for part in ("requests", "limits")
    ):
        chosen["requests"] = {"cpu": CPU_REQUEST, **chosen.get("requests", {})}
    if stdio.is_asked_for(context) and not any(
        "memory" in chosen.get(part, {}) for part in ("requests", "limits")
    ):
        chosen["requests"] = {"memory": stdio.memory(context), **chosen.get("requests", {})}
    return chosen


def _scaled_by_cpu(context: Context) -> bool:
    return context.spec.autoscaling is not None and context.spec.autoscaling.cpu is not None


def _spread(context: Context, over: str) -> dict[str, Any]:
    return {
        "maxSkew": 1,
        "topologyKey": over,
        "whenUnsatisfiable": "ScheduleAnyway",
        "labelSelector": {"matchLabels": context.selector},
    }
