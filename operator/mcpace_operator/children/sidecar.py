"""The sidecar's container: a native sidecar (KEP-753), which starts before the server and ends after it.

Its readiness is the handshake, and so the pod's readiness is too.
"""

from __future__ import annotations

from typing import Any, Final

from mcpace_operator.children import relay, secret
from mcpace_operator.children.configmap import FILE
from mcpace_operator.children.context import Context
from mcpace_sidecar.contract.quantity import size
from mcpace_sidecar.contract.surface import READYZ_WAIT, STDIO_PORT, Flag, Path

NAME: Final = "mcpace"
CONFIG: Final = "/etc/mcpace/config"
KEYS: Final = "/etc/mcpace/keys"
MEMORY: Final = 192 << 20
"""Bytes the sidecar may use beside what its cache holds."""
USER: Final = 65532
RESTRICTED: Final[dict[str, Any]] = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "readOnlyRootFilesystem": True,
    "runAsNonRoot": True,
    "seccompProfile": {"type": "RuntimeDefault"},
}
"""What all that is put beside the server does without."""
DRAIN: Final = ("python", "-m", "mcpace_sidecar.drain")
_MIB: Final = 1 << 20


def container(context: Context) -> dict[str, Any]:
    """The container."""
    spec, settings = context.spec, context.settings
    # A server that calls out through a door finds it open; any other starts at the same time. A
    # handshake in the startup probe would wait for a server that waits for the probe.
    startup = {"startupProbe": {**probe(Path.HEALTHZ), "periodSeconds": 1, "failureThreshold": 60}}
    return {
        "name": NAME,
        "image": settings.sidecar_image,
        "imagePullPolicy": settings.sidecar_pull_policy,
        "restartPolicy": "Always",
        "args": [
            "sidecar",
            f"{Flag.CONFIG}={CONFIG}/{FILE}",
            f"{Flag.LISTEN}=*:{spec.sidecar.port}",
            f"{Flag.ADMIN_LISTEN}=*:{spec.sidecar.admin_port}",
            f"{Flag.UPSTREAM}={_upstream(context)}",
            f"{Flag.NAME}={context.server.key}",
            f"{Flag.KEYS}={KEYS}",
            *relay.arguments(context),
        ],
        "env": secret.given(context),
        "ports": [
            {"name": "mcp", "containerPort": spec.sidecar.port, "protocol": "TCP"},
            {"name": "admin", "containerPort": spec.sidecar.admin_port, "protocol": "TCP"},
            *relay.ports(context),
        ],
        **(startup if spec.egress else {}),
        "readinessProbe": {
            **probe(READYZ_WAIT),
            "periodSeconds": 1,
            "timeoutSeconds": 5,
            "failureThreshold": 3,
        },
        "livenessProbe": {
            **probe(Path.HEALTHZ),
            "initialDelaySeconds": 30,
            "periodSeconds": 10,
            "timeoutSeconds": 5,
        },
        # Told at once when the pod ends, long before its turn to end comes: it turns unready and
        # sends clients elsewhere with their next answer.
        "lifecycle": {"preStop": {"exec": {"command": [*DRAIN, str(spec.sidecar.admin_port)]}}},
        "resources": _resources(context),
        "securityContext": security(context),
        "volumeMounts": [
            {"name": "mcpace-config", "mountPath": CONFIG, "readOnly": True},
            *(
                {"name": f"mcpace-keys-{number}", "mountPath": f"{KEYS}/{name}", "readOnly": True}
                for number, name in enumerate(key_secrets(context))
            ),
        ],
    }


def _upstream(context: Context) -> str:
    spec = context.spec
    return (
        f"http://127.0.0.1:{STDIO_PORT}" if spec.transport == "stdio" else f"http://localhost:{spec.port}"
    )


def security(context: Context) -> dict[str, Any]:
    """The security context of all that is put beside the server."""
    user = {"runAsUser": USER, "runAsGroup": USER} if context.settings.fixed_user_ids else {}
    return RESTRICTED | user


def volumes(context: Context) -> list[dict[str, Any]]:
    """The volumes that it alone mounts."""
    return [
        {"name": "mcpace-config", "configMap": {"name": context.name}},
        *(
            {"name": f"mcpace-keys-{number}", "secret": {"secretName": name, "optional": True}}
            for number, name in enumerate(key_secrets(context))
        ),
    ]


def probe(path: str, port: str | int = "admin") -> dict[str, Any]:
    """A probe of the admin port."""
    return {"httpGet": {"path": str(path), "port": port, "scheme": "HTTP"}}


def _resources(context: Context) -> dict[str, Any]:
    chosen = context.spec.sidecar.resources
    if chosen is not None:
        return chosen.model_dump(by_alias=True, exclude_none=True)
    cache = size(context.spec.cache.max_bytes) if context.spec.cache else 0
    limit = f"{-(-(MEMORY + cache) // _MIB)}Mi"
    return {"requests": {"cpu": "50m", "memory": "64Mi"}, "limits": {"memory": limit}}


def key_secrets(context: Context) -> list[str]:
    """The Secrets that hold clients' keys."""
    return sorted({keys.secret_ref.name for keys in context.spec.clients.api_keys})
