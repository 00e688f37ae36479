"""The schema of the chart's values."""

from __future__ import annotations

import json
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

Free = dict[str, Any]
"""As in Kubernetes."""
Labels = dict[str, str]
_OURS: Final = (
    "helm.sh/chart",
    *(f"app.kubernetes.io/{name}" for name in ("component", "instance", "managed-by", "name", "version")),
)
More = Annotated[Labels, Field(json_schema_extra={"propertyNames": {"not": {"enum": list(_OURS)}}})]
"""Labels beside ours, by which pods are selected."""
PullPolicy = Literal["Always", "IfNotPresent", "Never"]
Digest = Annotated[str, Field(pattern="^(sha256:[0-9a-f]{64})?$")]
Volume = Annotated[str, Field(pattern="^[0-9]+(Mi|Gi|Ti)$")]
Memory = Annotated[str, Field(pattern="^[0-9]+(kb|mb|gb)$")]
Namespace = Annotated[str, Field(pattern="^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", max_length=63)]


class Values(BaseModel):
    """Unknown keys are refused: a typing error shall not be a silent default."""

    model_config = ConfigDict(extra="forbid", alias_generator=to_camel)


class Crds(Values):
    """The resource McpServer."""

    enabled: bool
    keep: bool


class Image(Values):
    """A digest counts before a tag."""

    repository: str = Field(min_length=1)
    tag: str = ""
    digest: Digest = ""


class Switch(Values):
    """Something that is there or not."""

    enabled: bool


class Rbac(Values):
    """Roles."""

    create: bool
    aggregate_roles: bool


class ServiceAccount(Values):
    """The operator's account."""

    create: bool
    name: str
    annotations: Labels


class Placement(Values):
    """Where pods go."""

    node_selector: Labels
    tolerations: list[Free]
    affinity: Free
    priority_class_name: str


class Operator(Placement):
    """The operator's pods."""

    replicas: int = Field(ge=0, le=10)
    image: Image
    image_pull_policy: PullPolicy
    resources: Free
    topology_spread_constraints: list[Free]
    pod_labels: More
    pod_annotations: Labels
    pod_disruption_budget: Switch
    network_policy: Switch


class Sidecar(Values):
    """The image beside every server."""

    image: Image
    image_pull_policy: PullPolicy


class ServiceMonitor(Values):
    """Of the operator's own metrics."""

    enabled: bool
    labels: Labels
    interval: Annotated[str, Field(pattern="^[0-9]+(ms|s|m)$")]


class Alerts(Values):
    """Of the operator and Redis."""

    enabled: bool
    labels: Labels


class Dashboards(Values):
    """Of Grafana."""

    enabled: bool
    labels: Labels = Field(min_length=1)
    annotations: Labels
    folder: str


Address = Annotated[str, Field(pattern="^(https?://[^ ]+)?$")]


class Metrics(Values):
    """What is monitored, and where that is looked at."""

    service_monitor: ServiceMonitor
    alerts: Alerts
    dashboards: Dashboards
    grafana_url: Address
    runbooks_url: Address


class Servers(Values):
    """What every server is given."""

    callers: list[Free]
    monitoring: list[Free]
    monitor_labels: Labels


class SecretKey(Values):
    """A key of a Secret."""

    name: str
    key: str = Field(min_length=1)


class SecretName(Values):
    """A Secret."""

    name: str


class PullSecret(Values):
    """A Secret for pulling images."""

    name: str = Field(min_length=1)


class MasterKey(Values):
    """What every password is derived from."""

    existing_secret: SecretName


class PodSecurity(Values):
    """What containers say of their users."""

    fixed_user_ids: bool


class Persistence(Values):
    """A volume."""

    enabled: bool
    size: Volume
    storage_class_name: str


class Store(Values):
    """One Redis: embedded, or yours."""

    existing_secret: SecretKey
    max_memory: Memory
    persistence: Persistence
    resources: Free


class Authority(Values):
    """Certificates in PEM."""

    existing_secret: SecretKey


class Redis(Placement):
    """The two shared stores."""

    ca: Authority
    image: Image
    image_pull_policy: PullPolicy
    pod_disruption_budget: Switch
    network_policy: Switch
    cache: Store
    limits: Store


class Test(Values):
    """`helm test`."""

    image: Image


class Chart(Values):
    """All values."""

    model_config = ConfigDict(title="mcpace")

    global_: Free = Field(default={}, alias="global")
    fullname_override: str = Field(max_length=40, pattern="^([a-z]([-a-z0-9]*[a-z0-9])?)?$")
    common_labels: More
    image_pull_secrets: list[PullSecret]
    pod_security: PodSecurity
    watch_namespaces: list[Namespace]
    master_key: MasterKey
    crds: Crds
    rbac: Rbac
    service_account: ServiceAccount
    operator: Operator
    sidecar: Sidecar
    metrics: Metrics
    servers: Servers
    redis: Redis
    test: Test


def schema() -> str:
    """The JSON Schema; nothing is required, because Helm merges the defaults in first."""

    def relaxed(node: Any) -> Any:
        if isinstance(node, dict):
            return {k: relaxed(v) for k, v in node.items() if k not in ("required", "default", "title")}
        return [relaxed(item) for item in node] if isinstance(node, list) else node

    document = {"$schema": "http://json-schema.org/draft-07/schema#"} | relaxed(Chart.model_json_schema())
    return (
        json.dumps(document, indent=2)
        .replace("#/$defs/", "#/definitions/")
        .replace('"$defs"', '"definitions"')
        + "\n"
    )
