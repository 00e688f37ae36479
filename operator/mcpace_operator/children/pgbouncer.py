"""PgBouncer beside the server: few connections to the database, kept, whatever the server opens.

Its configuration holds the database's password, so it is not the operator that writes it: a
container of the sidecar's image reads the Secret's `uri` and writes the file into the pod's
memory before PgBouncer starts. Only the pod's loopback may log in, without a password.
"""

from __future__ import annotations

from typing import Any, Final

from mcpace_operator.children.context import Context
from mcpace_operator.children.sidecar import security
from mcpace_operator.resource.database import Database
from mcpace_sidecar.contract.environment import DATABASE_URI
from mcpace_sidecar.contract.surface import DATABASE_PORT as PORT

NAME: Final = "pgbouncer"
FOLDER: Final = "/run/pgbouncer"
VOLUME: Final = "mcpace-pgbouncer"
URL: Final = f"postgresql://mcpace@127.0.0.1:{PORT}/mcpace?sslmode=disable"
"""What the server is given as DATABASE_URL."""


def containers(context: Context) -> list[dict[str, Any]]:
    """The container that writes the configuration, and PgBouncer, where `database` is set."""
    database = context.spec.database
    if database is None:
        return []
    mount = {"name": VOLUME, "mountPath": FOLDER}
    reached = {"tcpSocket": {"port": PORT}}
    return [
        {
            "name": "pgbouncer-config",
            "image": context.settings.sidecar_image,
            "terminationMessagePolicy": "FallbackToLogsOnError",
            "imagePullPolicy": context.settings.sidecar_pull_policy,
            "args": ["pgbouncer", *_arguments(context, database)],
            "env": [
                {
                    "name": DATABASE_URI.name,
                    "valueFrom": {"secretKeyRef": {"name": database.secret_ref.name, "key": "uri"}},
                }
            ],
            "resources": {"requests": {"cpu": "10m", "memory": "64Mi"}, "limits": {"memory": "128Mi"}},
            "securityContext": security(context),
            "volumeMounts": [mount],
        },
        {
            "name": NAME,
            "image": database.image,
            "terminationMessagePolicy": "FallbackToLogsOnError",
            "restartPolicy": "Always",
            "command": [NAME, f"{FOLDER}/pgbouncer.ini"],
            "ports": [{"name": NAME, "containerPort": PORT, "protocol": "TCP"}],
            # It listens whether or not the database answers: a database that restarts ends no pod.
            "startupProbe": {**reached, "periodSeconds": 1, "failureThreshold": 60},
            "readinessProbe": {**reached, "periodSeconds": 5},
            "livenessProbe": {**reached, "periodSeconds": 10, "timeoutSeconds": 5},
            "resources": database.resources.model_dump(by_alias=True, exclude_none=True)
            if database.resources
            else {"requests": {"cpu": "20m", "memory": "16Mi"}, "limits": {"memory": "64Mi"}},
            "securityContext": security(context),
            "volumeMounts": [{**mount, "readOnly": True}],
        },
    ]


def volumes(context: Context) -> list[dict[str, Any]]:
    """Where the configuration is: in memory, because it holds a password."""
    if context.spec.database is None:
        return []
    return [{"name": VOLUME, "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}}]


def environment(context: Context) -> list[dict[str, Any]]:
    """What points the server at it."""
    return [{"name": "DATABASE_URL", "value": URL}] if context.spec.database is not None else []


def _arguments(context: Context, database: Database) -> list[str]:
    return [
        f"--out={FOLDER}",
        f"--pool-mode={database.pool_mode}",
        f"--max-connections={database.max_connections}",
        f"--idle-timeout={database.idle_timeout}",
        f"--connect-timeout={database.connect_timeout}",
        # Whoever called has given up by then.
        f"--wait-timeout={context.spec.upstream.timeout}",
    ]
