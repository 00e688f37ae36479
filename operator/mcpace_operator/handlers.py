"""kopf's edge: events mark a key in the queue, and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

import kopf

from mcpace_operator.children.meta import MANAGED_BY
from mcpace_operator.cluster import OPTIONAL, RESOURCES
from mcpace_operator.models import GROUP, KIND, PLURAL, VERSION

WATCHED: Final = tuple(kind for kind in RESOURCES if kind not in (KIND, "Secret", "Pod", *OPTIONAL))
"""The kinds of children that are always watched. Secrets are not: the operator reads none."""

SELECTOR: Final = ",".join(f"{name}={value}" for name, value in MANAGED_BY.items())

See = Callable[[str, Mapping[str, Any], bool], None]


class Nothing(kopf.DiffBaseStorage):
    """Stores and compares nothing: this operator keeps its own view, and kopf's would cost a copy."""

    def build(self, **_: Any) -> Any:
        """Nothing."""
        return {}

    def fetch(self, **_: Any) -> Any:
        """Nothing."""
        return None

    def store(self, **_: Any) -> None:
        """Nothing."""


def registry(see: See, kinds: Iterable[str]) -> kopf.OperatorRegistry:
    """The handlers for servers and children of these kinds; `see` takes (kind, body, deleted)."""
    handlers = kopf.OperatorRegistry()

    def handler(kind: str) -> Callable[..., None]:
        def on_event(event: Mapping[str, Any], **_: Any) -> None:
            see(kind, event["object"], event["type"] == "DELETED")

        return on_event

    kopf.on.event(GROUP, VERSION, PLURAL, id="server", registry=handlers)(handler(KIND))
    for kind in kinds:
        api, plural = RESOURCES[kind]
        group, _, version = api.rpartition("/")
        kopf.on.event(group, version, plural, id=plural, registry=handlers)(handler(kind))

    @kopf.on.login(registry=handlers)
    def login(**kwargs: Any) -> Any:
        return kopf.login_with_service_account(**kwargs) or kopf.login_with_kubeconfig(**kwargs)

    return handlers


def settings() -> kopf.OperatorSettings:
    """kopf, tuned for a thousand servers; each value as measured."""
    chosen = kopf.OperatorSettings()
    chosen.posting.enabled = False
    chosen.persistence.diffbase_storage = Nothing()
    chosen.queueing.worker_limit = 50
    chosen.queueing.idle_timeout = 0.1
    chosen.networking.connect_timeout = 5
    chosen.networking.request_timeout = 15
    chosen.networking.error_backoffs = (1, 1, 2, 3, 5, 8, 13, 21, 34, 55, 60, 60, 60, 60)
    chosen.scanning.disabled = True
    chosen.watching.server_timeout = 120
    chosen.watching.client_timeout = 150
    chosen.watching.connect_timeout = 5
    chosen.watching.chunk_size = 100
    for kind in (*WATCHED, *OPTIONAL):
        chosen.watching.label_selectors[RESOURCES[kind][1]] = SELECTOR
    return chosen
