"""The resource `McpServer`, as people write it. Imports neither kopf nor a Kubernetes client."""

from __future__ import annotations

from typing import Any, Final, Literal, Self

from pydantic import ConfigDict, Field, model_validator

from mcpace_operator.resource.database import PORT as DATABASE_PORT
from mcpace_operator.resource.database import Database
from mcpace_operator.resource.monitoring import ServerMonitoring
from mcpace_operator.resource.network import NetworkPolicy
from mcpace_operator.resource.pod import PodPart, PodTemplate, Resources
from mcpace_operator.resource.scaling import Autoscaling, DisruptionBudget, Strategy
from mcpace_sidecar.contract.config import SIDECAR_RULES, Model, SidecarConfig, parse_strictly, rule
from mcpace_sidecar.contract.config.base import MisplacedError, Text

GROUP: Final = "mcpace.dev"
VERSION: Final = "v1alpha1"
API_VERSION: Final = f"{GROUP}/{VERSION}"
KIND: Final = "McpServer"
PLURAL: Final = "mcpservers"

LONGEST_NAME: Final = 52
NAME_PATTERN: Final = r"^[a-z]([-a-z0-9]*[a-z0-9])?$"
NAME_WORDS: Final = (
    f"metadata.name must be at most {LONGEST_NAME} lower-case letters, digits and '-', and begin with a"
    " letter"
)

PORT_WORDS = "port, sidecar.port and sidecar.adminPort must differ"
DATABASE_PORT_WORDS = f"with `database`, port {DATABASE_PORT} is PgBouncer's: choose another"
REPLICAS_WORDS = (
    "write replicas or autoscaling, not both: with autoscaling, minReplicas and maxReplicas count"
)
MEMORY_WORDS = "autoscaling.targetMemoryUtilization is a part of resources.requests.memory: set that too"

_PORTS: Final = (
    "(has(self.port) ? self.port : 8000),"
    " (has(self.sidecar) && has(self.sidecar.port) ? self.sidecar.port : 18080),"
    " (has(self.sidecar) && has(self.sidecar.adminPort) ? self.sidecar.adminPort : 18090)"
)


class SidecarContainer(Model):
    """The sidecar's own container."""

    port: int = Field(default=18080, ge=1, le=65535, description="Where calls arrive.")
    admin_port: int = Field(default=18090, ge=1, le=65535, description="Health and metrics.")
    resources: Resources | None = None
    roll_on_upgrade: bool = Field(
        default=False,
        description="Restart the pods when a newer operator would make them otherwise;"
        " by default they keep what they have until the manifest changes them.",
    )


class McpServerSpec(SidecarConfig):
    """One MCP server, and what it is given. Only `image` is required."""

    model_config = ConfigDict(
        json_schema_extra={
            "x-kubernetes-validations": [
                *SIDECAR_RULES,
                rule(
                    f"[{_PORTS}].all(p, [{_PORTS}].filter(q, q == p).size() == 1)",
                    PORT_WORDS,
                ),
                rule(
                    f"!has(self.database) || ![{_PORTS}].exists(p, p == {DATABASE_PORT})",
                    DATABASE_PORT_WORDS,
                ),
                rule("!(has(self.replicas) && has(self.autoscaling))", REPLICAS_WORDS),
                rule(
                    "!has(self.autoscaling) || !has(self.autoscaling.targetMemoryUtilization)"
                    " || (has(self.resources) && has(self.resources.requests)"
                    " && 'memory' in self.resources.requests)",
                    MEMORY_WORDS,
                ),
            ]
        }
    )

    image: str = Field(min_length=1, max_length=512, description="The server's container image.")
    image_pull_policy: Literal["Always", "IfNotPresent", "Never"] | None = Field(
        default=None, description="The server container's; Kubernetes' default where not set."
    )
    image_pull_secrets: tuple[PodPart, ...] = Field(default=(), max_length=16, description="As in a pod.")
    command: tuple[Text, ...] = Field(
        default=(), max_length=64, description="Instead of the image's entry point, as in a pod."
    )
    args: tuple[Text, ...] = Field(
        default=(), max_length=256, description="Instead of the image's arguments, as in a pod."
    )
    env: tuple[PodPart, ...] = Field(default=(), max_length=256, description="As in a pod.")
    env_from: tuple[PodPart, ...] = Field(default=(), max_length=32, description="As in a pod.")
    resources: Resources | None = None
    volumes: tuple[PodPart, ...] = Field(default=(), max_length=32, description="As in a pod.")
    volume_mounts: tuple[PodPart, ...] = Field(
        default=(), max_length=32, description="The server container's, as in a pod."
    )
    security_context: PodPart | None = Field(
        default=None,
        description="The server container's; privilege escalation is off unless set here.",
    )
    port: int = Field(default=8000, ge=1, le=65535, description="The server's own port.")
    replicas: int | None = Field(
        default=None,
        ge=0,
        le=1000,
        description="One at first where not set, and then whatever else scales the Deployment.",
    )
    autoscaling: Autoscaling | None = None
    strategy: Strategy = Strategy()
    sidecar: SidecarContainer = SidecarContainer()
    database: Database | None = None
    monitoring: ServerMonitoring = ServerMonitoring()
    pod_disruption_budget: DisruptionBudget = DisruptionBudget()
    network_policy: NetworkPolicy | None = None
    pod_template: PodTemplate = PodTemplate()

    @model_validator(mode="after")
    def _possible(self) -> Self:
        ports = {self.port, self.sidecar.port, self.sidecar.admin_port}
        if len(ports) < 3:
            raise MisplacedError(("port",), PORT_WORDS)
        if self.database is not None and DATABASE_PORT in ports:
            raise MisplacedError(("port",), DATABASE_PORT_WORDS)
        if self.autoscaling is not None:
            if self.replicas is not None:
                raise MisplacedError(("replicas",), REPLICAS_WORDS)
            requests = (self.resources and self.resources.requests) or {}
            if self.autoscaling.target_memory_utilization is not None and "memory" not in requests:
                raise MisplacedError(("autoscaling", "targetMemoryUtilization"), MEMORY_WORDS)
        return self

    def sidecar_config(self) -> dict[str, Any]:
        """The sidecar's subtree, holding only what the user set."""
        document = self.model_dump(
            by_alias=True,
            exclude_unset=True,
            mode="json",
            include=set(SidecarConfig.model_fields),
            exclude={"monitoring": {"service_monitor", "alerts"}},
        )
        if not document.get("monitoring", True):
            del document["monitoring"]
        return document


def parse_spec(spec: Any) -> McpServerSpec:
    """Validate a spec; ConfigError says what to write instead, a line a problem."""
    return parse_strictly(McpServerSpec, spec)
