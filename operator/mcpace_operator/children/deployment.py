"""The pods: the server, and before it the sidecar as a native sidecar container.

A native sidecar (an init container that restarts always, KEP-753) starts before the server
and ends after it. Its startup probe is `/healthz`: a handshake there would wait for a server
that waits for the probe. Its readiness is the handshake, and so the pod's readiness is too.
"""

from __future__ import annotations

from typing import Any, Final

from mcpace_operator.children.configmap import FILE
from mcpace_operator.children.meta import Context
from mcpace_sidecar.quantity import size

CONFIG: Final = "/etc/mcpace/config"
KEYS: Final = "/etc/mcpace/keys"
SERVER_SLEEP: Final = 8
"""Seconds between a pod's end being announced and the server being told: the time in which
Services forget the pod and kept connections are sent elsewhere."""
GRACE: Final = SERVER_SLEEP + 40
SIDECAR_MEMORY: Final = 128 << 20
"""Bytes the sidecar may use beside what its cache holds."""
_MIB: Final = 1 << 20


def build(context: Context) -> dict[str, Any]:
    """The Deployment."""
    spec = context.spec
    pod: dict[str, Any] = {
        "serviceAccountName": context.name,
        "automountServiceAccountToken": False,
        "terminationGracePeriodSeconds": GRACE,
        "initContainers": [_sidecar(context)],
        "containers": [_server(context)],
        "volumes": [*_volumes(context), *spec.volumes],
    }
    if spec.image_pull_secrets:
        pod["imagePullSecrets"] = list(spec.image_pull_secrets)
    metadata = context.metadata()
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": metadata,
        "spec": {
            "replicas": spec.replicas,
            "selector": {"matchLabels": context.selector},
            "strategy": {"rollingUpdate": {"maxUnavailable": 0, "maxSurge": "25%"}},
            "template": {"metadata": {"labels": metadata["labels"]}, "spec": pod},
        },
    }


def _server(context: Context) -> dict[str, Any]:
    spec = context.spec
    container: dict[str, Any] = {
        "name": "server",
        "image": spec.image,
        "ports": [{"name": "server", "containerPort": spec.port, "protocol": "TCP"}],
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "seccompProfile": {"type": "RuntimeDefault"},
            **(spec.security_context or {}),
        },
        "lifecycle": {"preStop": {"sleep": {"seconds": SERVER_SLEEP}}},
    }
    optional: dict[str, Any] = {
        "imagePullPolicy": spec.image_pull_policy,
        "command": list(spec.command),
        "args": list(spec.args),
        "env": list(spec.env),
        "envFrom": list(spec.env_from),
        "volumeMounts": list(spec.volume_mounts),
        "resources": spec.resources.model_dump(by_alias=True, exclude_none=True)
        if spec.resources
        else None,
    }
    return container | {name: value for name, value in optional.items() if value}


def _sidecar(context: Context) -> dict[str, Any]:
    spec, settings = context.spec, context.settings
    admin = {"port": "admin", "scheme": "HTTP"}
    return {
        "name": "mcpace",
        "image": settings.sidecar_image,
        "imagePullPolicy": settings.sidecar_pull_policy,
        "restartPolicy": "Always",
        "args": [
            "sidecar",
            f"--config={CONFIG}/{FILE}",
            f"--listen=*:{spec.sidecar.port}",
            f"--admin-listen=*:{spec.sidecar.admin_port}",
            f"--upstream=http://127.0.0.1:{spec.port}",
            f"--name={context.server.key}",
            f"--keys={KEYS}",
        ],
        "env": _environment(context),
        "ports": [
            {"name": "mcp", "containerPort": spec.sidecar.port, "protocol": "TCP"},
            {"name": "admin", "containerPort": spec.sidecar.admin_port, "protocol": "TCP"},
        ],
        "startupProbe": {
            "httpGet": {"path": "/healthz", **admin},
            "periodSeconds": 1,
            "failureThreshold": 60,
        },
        "readinessProbe": {
            "httpGet": {"path": "/readyz", **admin},
            "periodSeconds": 2,
            "failureThreshold": 2,
        },
        "livenessProbe": {
            "httpGet": {"path": "/healthz", **admin},
            "periodSeconds": 10,
            "timeoutSeconds": 5,
        },
        # Told at once when the pod ends, long before its turn to end comes: it turns unready and
        # sends clients elsewhere with their next answer.
        "lifecycle": {"preStop": {"exec": {"command": ["/bin/sh", "-c", "kill -USR1 1"]}}},
        "resources": _sidecar_resources(context),
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
            "runAsNonRoot": True,
            "runAsUser": 65532,
            "runAsGroup": 65532,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "volumeMounts": [
            {"name": "mcpace-config", "mountPath": CONFIG, "readOnly": True},
            *(
                {"name": f"mcpace-keys-{number}", "mountPath": f"{KEYS}/{secret}", "readOnly": True}
                for number, secret in enumerate(_key_secrets(context))
            ),
        ],
    }


def _environment(context: Context) -> list[dict[str, Any]]:
    wanted = {"MCPACE_ADMIN_TOKEN": "admin-token"}
    if context.credentials.limits_url is not None:
        wanted["MCPACE_LIMITS_URL"] = "limits-url"
    if context.credentials.cache_url is not None:
        wanted["MCPACE_CACHE_URL"] = "cache-url"
    return [
        {"name": name, "valueFrom": {"secretKeyRef": {"name": context.secret_name, "key": key}}}
        for name, key in wanted.items()
    ]


def _sidecar_resources(context: Context) -> dict[str, Any]:
    chosen = context.spec.sidecar.resources
    if chosen is not None:
        return chosen.model_dump(by_alias=True, exclude_none=True)
    cache = size(context.spec.cache.max_bytes) if context.spec.cache else 0
    limit = f"{-(-(SIDECAR_MEMORY + cache) // _MIB)}Mi"
    return {"requests": {"cpu": "50m", "memory": "64Mi"}, "limits": {"memory": limit}}


def _volumes(context: Context) -> list[dict[str, Any]]:
    return [
        {"name": "mcpace-config", "configMap": {"name": context.name}},
        *(
            {"name": f"mcpace-keys-{number}", "secret": {"secretName": secret, "optional": True}}
            for number, secret in enumerate(_key_secrets(context))
        ),
    ]


def _key_secrets(context: Context) -> list[str]:
    return sorted({keys.secret_ref.name for keys in context.spec.clients.api_keys})
