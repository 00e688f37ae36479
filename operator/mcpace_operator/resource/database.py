"""`database`: PgBouncer beside the server, so that its database connections are few, and kept."""

from __future__ import annotations

from typing import Final, Literal

from pydantic import Field

from mcpace_operator.resource.pod import Resources
from mcpace_sidecar.contract.config import Model
from mcpace_sidecar.contract.config.base import SecretRef
from mcpace_sidecar.contract.quantity import Duration

IMAGE: Final = "edoburu/pgbouncer:v1.24.1-p1"


class Database(Model):
    """A pool of connections to PostgreSQL that outlives calls; `DATABASE_URL` is pointed at it."""

    secret_ref: SecretRef = Field(
        description="The Secret whose `uri` is postgresql://user:password@host:port/database."
    )
    image: str = Field(
        default=IMAGE, min_length=1, max_length=512, description="PgBouncer 1.21 or later, on its path."
    )
    pool_mode: Literal["transaction", "session", "statement"] = Field(
        default="transaction", description="How long a client keeps a connection; as in PgBouncer."
    )
    max_connections: int = Field(
        default=20, ge=1, le=10_000, description="Connections to the database, per pod."
    )
    idle_timeout: Duration = Field(default="30s", description="How long an idle connection is kept.")
    connect_timeout: Duration = Field(
        default="5s", description="How long the database may take to accept one."
    )
    resources: Resources | None = None
