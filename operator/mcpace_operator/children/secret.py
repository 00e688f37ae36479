"""What the sidecar must keep to itself: Redis URLs, its admin port's token, the keys of its sessions."""

from __future__ import annotations

import base64
from typing import Any, Final

from mcpace_operator.children.context import Context
from mcpace_operator.comparison.drift import fingerprint
from mcpace_sidecar.contract import environment
from mcpace_sidecar.contract.environment import Variable

ADMIN: Final = "admin-token"
SESSION: Final = "session-key"
_PREVIOUS: Final = "session-key-previous"
_NOT_ALWAYS: Final = {_PREVIOUS: (environment.SESSION_KEY_PREVIOUS, "")}
"""What containers are told to look for though it may not be there: they stay as they are when it goes."""


def build(context: Context) -> dict[str, Any]:
    """The Secret; only the sidecar's container gets it."""
    data = {key: base64.b64encode(value.encode()).decode() for key, (_, value) in _held(context).items()}
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": context.metadata(context.secret_name),
        "type": "Opaque",
        "data": data,
    }


def given(context: Context) -> list[dict[str, Any]]:
    """The environment of the sidecar's container."""
    return [
        {"name": variable.name, "valueFrom": {"secretKeyRef": _reference(context, key)}}
        for key, (variable, _) in (_NOT_ALWAYS | _held(context)).items()
    ]


def _reference(context: Context, key: str) -> dict[str, Any]:
    # A key of sessions goes when the master key is changed, or with an older operator: a container
    # that starts anew meanwhile is not to wait for it.
    optional = {"optional": True} if key.startswith(SESSION) else {}
    return {"name": context.secret_name, "key": key, **optional}


def told(context: Context) -> str:
    """What changes whenever pods must start anew to be told of it.

    Without the keys of sessions: a new one comes with a new token, pods older than they need none, and to
    forget the one before nobody has to start anew.
    """
    secret = build(context)
    data = {key: value for key, value in secret["data"].items() if not key.startswith(SESSION)}
    return fingerprint(secret | {"data": data})


def _held(context: Context) -> dict[str, tuple[Variable, str]]:
    """Key -> (the variable that the sidecar reads it from, what it holds)."""
    master, uid = context.settings.master_key, context.server.uid
    previous = master.accepted("session", uid)[1:]
    held = {
        ADMIN: (environment.ADMIN_TOKEN, master.derive("admin", uid)),
        SESSION: (environment.SESSION_KEY, master.derive("session", uid)),
        _PREVIOUS: (environment.SESSION_KEY_PREVIOUS, previous[0] if previous else None),
        "limits-url": (environment.LIMITS_URL, context.credentials.limits_url),
        "cache-url": (environment.CACHE_URL, context.credentials.cache_url),
        "redis-ca": (environment.REDIS_CA, context.settings.redis_authority),
    }
    return {key: (variable, value) for key, (variable, value) in held.items() if value is not None}
