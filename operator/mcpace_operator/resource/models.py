"""The resource `McpServer`, as people write it. Imports neither kopf nor a Kubernetes client."""

from __future__ import annotations

from typing import Any, Final, Literal

from pydantic import Field

from mcpace_operator.resource.database import Database
from mcpace_operator.resource.monitoring import ServerMonitoring
from mcpace_operator.resource.network import NetworkPolicy
from mcpace_operator.resource.pod import PodPart, PodTemplate, Resources
from mcpace_operator.resource.scaling import Autoscaling, DisruptionBudget, Strategy
from mcpace_sidecar.contract.config import Model, SidecarConfig, parse_strictly
from mcpace_sidecar.contract.config.base import Text
from mcpace_sidecar.contract.config.traffic import Monitoring
from mcpace_sidecar.contract.rules import Broken, broken, rule
from mcpace_sidecar.contract.surface import ADMIN_PORT, DATA_PORT, DATABASE_PORT, SERVER_PORT, STDIO_PORT

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

_PORTS: Final = (
    f"(has(self.port) ? self.port : has(self.transport) && self.transport == 'stdio' ? {STDIO_PORT}"
    f" : {SERVER_PORT}),"
    f" (has(self.sidecar) && has(self.sidecar.port) ? self.sidecar.port : {DATA_PORT}),"
    f" (has(self.sidecar) && has(self.sidecar.adminPort) ? self.sidecar.adminPort : {ADMIN_PORT})"
)
"""What is listened on, in CEL."""


class SidecarContainer(Model):
    """The sidecar's own container."""

    port: int = Field(default=DATA_PORT, ge=1, le=65535, description="Where calls arrive.")
    admin_port: int = Field(default=ADMIN_PORT, ge=1, le=65535, description="Health and metrics.")
    resources: Resources | None = None
    roll_on_upgrade: bool = Field(
        default=False,
        description="Restart the pods when a newer operator would make them otherwise;"
        " by default they keep what they have until the manifest changes them.",
    )


class McpServerSpec(SidecarConfig):
    """One MCP server, and what it is given. Only `image` is required."""

    image: str = Field(min_length=1, max_length=512, description="The server's container image.")
    image_pull_policy: Literal["Always", "IfNotPresent", "Never"] | None = Field(
        default=None, description="The server container's; Kubernetes' default where not set."
    )
    image_pull_secrets: tuple[PodPart, ...] = Field(default=(), max_length=16, description="As in a pod.")
    command: tuple[Text, ...] = Field(
        default=(),
        max_length=64,
        description="Instead of the image's entry point, as in a pod; `stdio` needs it.",
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
    port: int = Field(
        default=SERVER_PORT, ge=1, le=65535, description="The server's own port; `stdio` has none."
    )
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

    @property
    def ports(self) -> tuple[int, int, int]:
        """What is listened on: by the server, and by the sidecar for calls and for the operator."""
        own = STDIO_PORT if self.transport == "stdio" else self.port
        return own, self.sidecar.port, self.sidecar.admin_port

    @rule(
        f"[{_PORTS}].all(p, [{_PORTS}].filter(q, q == p).size() == 1)",
        "port, sidecar.port and sidecar.adminPort must differ",
    )
    def _ports_differ(self) -> Broken | None:
        return broken(len(set(self.ports)) < len(self.ports), "port")

    @rule(
        f"!has(self.database) || ![{_PORTS}].exists(p, p == {DATABASE_PORT})",
        f"with `database`, port {DATABASE_PORT} is PgBouncer's: choose another",
    )
    def _database_has_its_port(self) -> Broken | None:
        return broken(self.database is not None and DATABASE_PORT in self.ports, "port")

    @rule(
        "!(has(self.replicas) && has(self.autoscaling))",
        "write replicas or autoscaling, not both: with autoscaling, minReplicas and maxReplicas count",
    )
    def _one_says_how_many(self) -> Broken | None:
        return broken(self.replicas is not None and self.autoscaling is not None, "replicas")

    @rule(
        "!has(self.autoscaling) || !has(self.autoscaling.targetMemoryUtilization)"
        " || (has(self.resources) && has(self.resources.requests)"
        " && 'memory' in self.resources.requests)",
        "autoscaling.targetMemoryUtilization is a part of resources.requests.memory: set that too",
    )
    def _memory_is_a_part_of_something(self) -> Broken | None:
        aimed = self.autoscaling is not None and self.autoscaling.target_memory_utilization is not None
        requests = (self.resources and self.resources.requests) or {}
        return broken(aimed and "memory" not in requests, "autoscaling", "targetMemoryUtilization")

    @rule(
        "!has(self.port) || !has(self.transport) || self.transport != 'stdio'",
        "a server of transport stdio listens on no port: leave `port` out",
    )
    def _processes_have_no_port(self) -> Broken | None:
        return broken(self.transport == "stdio" and "port" in self.model_fields_set, "port")

    @rule(
        "!has(self.transport) || self.transport != 'stdio' || has(self.command) && size(self.command) > 0",
        "transport stdio needs `command`, which starts the server, such as [npx, -y, SERVER]",
    )
    def _processes_are_started(self) -> Broken | None:
        return broken(self.transport == "stdio" and not self.command, "command")

    def sidecar_config(self) -> dict[str, Any]:
        """The sidecar's subtree, holding only what the user set."""
        document = self.model_dump(
            by_alias=True,
            exclude_unset=True,
            mode="json",
            include=set(SidecarConfig.model_fields),
            exclude={"monitoring": set(ServerMonitoring.model_fields) - set(Monitoring.model_fields)},
        )
        if not document.get("monitoring", True):
            del document["monitoring"]
        return document


def parse_spec(spec: Any) -> McpServerSpec:
    """Validate a spec; ConfigError says what to write instead, a line a problem."""
    return parse_strictly(McpServerSpec, spec)
