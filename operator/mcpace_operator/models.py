"""The resource `McpServer`, as people write it. Imports neither kopf nor a Kubernetes client."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Final, Self

from pydantic import ConfigDict, Field, ValidationError, WithJsonSchema, model_validator

from mcpace_sidecar.config import SIDECAR_RULES, Model, SidecarConfig, explain, read_yaml, rule
from mcpace_sidecar.errors import ConfigError

GROUP: Final = "mcpace.dev"
VERSION: Final = "v1alpha1"
API_VERSION: Final = f"{GROUP}/{VERSION}"
KIND: Final = "McpServer"
PLURAL: Final = "mcpservers"

_PRESERVED: Final = {"x-kubernetes-preserve-unknown-fields": True}
PodPart = Annotated[dict[str, Any], WithJsonSchema({"type": "object", **_PRESERVED})]
"""An object as in a pod; the API server judges it when the Deployment is applied."""

PORT_WORDS = "port, sidecar.port and sidecar.adminPort must differ"


class Resources(Model):
    """Requests and limits, as of a container."""

    requests: PodPart | None = None
    limits: PodPart | None = None


class SidecarContainer(Model):
    """The sidecar's own container."""

    port: int = Field(default=18080, ge=1, le=65535, description="Where calls arrive.")
    admin_port: int = Field(default=18090, ge=1, le=65535, description="Health and metrics.")
    resources: Resources | None = None


class McpServerSpec(SidecarConfig):
    """One MCP server, and what it is given. Only `image` is required."""

    model_config = ConfigDict(
        json_schema_extra={
            "x-kubernetes-validations": [
                *SIDECAR_RULES,
                rule(
                    "[(has(self.port) ? self.port : 8000),"
                    " (has(self.sidecar) && has(self.sidecar.port) ? self.sidecar.port : 18080),"
                    " (has(self.sidecar) && has(self.sidecar.adminPort) ? self.sidecar.adminPort : 18090)]"
                    ".all(p, [(has(self.port) ? self.port : 8000),"
                    " (has(self.sidecar) && has(self.sidecar.port) ? self.sidecar.port : 18080),"
                    " (has(self.sidecar) && has(self.sidecar.adminPort) ? self.sidecar.adminPort : 18090)]"
                    ".filter(q, q == p).size() == 1)",
                    PORT_WORDS,
                ),
            ]
        }
    )

    image: str = Field(min_length=1, max_length=512, description="The server's container image.")
    image_pull_policy: str | None = Field(default=None, pattern="^(Always|IfNotPresent|Never)$")
    image_pull_secrets: tuple[PodPart, ...] = Field(default=(), max_length=16)
    command: tuple[str, ...] = Field(default=(), max_length=64)
    args: tuple[str, ...] = Field(default=(), max_length=256)
    env: tuple[PodPart, ...] = Field(default=(), max_length=256)
    env_from: tuple[PodPart, ...] = Field(default=(), max_length=32)
    resources: Resources | None = None
    volumes: tuple[PodPart, ...] = Field(default=(), max_length=32)
    volume_mounts: tuple[PodPart, ...] = Field(default=(), max_length=32)
    security_context: PodPart | None = Field(
        default=None,
        description="The server container's; privilege escalation is off unless set here.",
    )
    port: int = Field(default=8000, ge=1, le=65535, description="The server's own port.")
    replicas: int = Field(default=1, ge=0, le=1000)
    sidecar: SidecarContainer = SidecarContainer()

    @model_validator(mode="after")
    def _ports_differ(self) -> Self:
        if len({self.port, self.sidecar.port, self.sidecar.admin_port}) < 3:
            raise ValueError(PORT_WORDS)
        return self

    def sidecar_config(self) -> dict[str, Any]:
        """The sidecar's subtree, holding only what the user set."""
        return self.model_dump(
            by_alias=True, exclude_unset=True, mode="json", include=set(SidecarConfig.model_fields)
        )


def parse_spec(spec: Any) -> McpServerSpec:
    """Validate a spec; ConfigError says what to write instead, a line a problem."""
    try:
        return McpServerSpec.model_validate(spec)
    except ValidationError as error:
        raise ConfigError(explain(error)) from None


def read_manifest(path: Path) -> tuple[str, McpServerSpec]:
    """Read an `McpServer` manifest; return `namespace/name` and its spec. ConfigError."""
    document = read_yaml(path)
    if not isinstance(document, dict) or document.get("kind") != KIND:
        raise ConfigError(f"{path} is no {KIND} manifest; its kind must be {KIND}")
    if document.get("apiVersion") != API_VERSION:
        raise ConfigError(f"{path}: the apiVersion must be {API_VERSION}")
    metadata = document.get("metadata") or {}
    if not isinstance(metadata, dict) or not metadata.get("name"):
        raise ConfigError(f"{path}: metadata.name is missing")
    try:
        spec = parse_spec(document.get("spec") or {})
    except ConfigError as error:
        lines = "\n".join(f"  spec.{line}" for line in str(error).splitlines())
        raise ConfigError(f"{path} cannot be used:\n{lines}") from None
    return f"{metadata.get('namespace', 'default')}/{metadata['name']}", spec
