"""What Kubernetes itself keeps of an object, as a manifest may write it."""

from __future__ import annotations

import re
from typing import Any, Final, Self

from pydantic import Field, model_validator

from mcpace_operator.resource.models import LONGEST_NAME, NAME_PATTERN, NAME_WORDS
from mcpace_sidecar.contract.config.base import MisplacedError, Model, Name, Text, spelled

_LABEL: Final = r"([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)"
_DOMAIN: Final = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*"
_LABEL_WORDS: Final = (
    "write at most 63 letters, digits and '-', '_', '.', with a letter or digit at both ends"
)
_LARGEST: Final = 256 << 10
"""Bytes of all annotations together."""
_KEY_WORDS: Final = f"this is no key: {_LABEL_WORDS}; a domain and '/' may stand before it"


class Metadata(Model):
    """What Kubernetes keeps of every object; only these are read here."""

    name: str = spelled(NAME_PATTERN, NAME_WORDS, max_length=LONGEST_NAME)
    namespace: Name = "default"
    labels: dict[str, Text] = Field(default={})
    annotations: dict[str, str] = Field(default={})
    generate_name: Any = None
    uid: Any = None
    resource_version: Any = None
    generation: Any = None
    creation_timestamp: Any = None
    deletion_timestamp: Any = None
    deletion_grace_period_seconds: Any = None
    finalizers: Any = None
    owner_references: Any = None
    managed_fields: Any = None
    self_link: Any = None

    @model_validator(mode="after")
    def _is_spelled_as_kubernetes_wants_it(self) -> Self:
        for part, entries in (("labels", self.labels), ("annotations", self.annotations)):
            for key in entries:
                domain, slash, name = key.rpartition("/")
                if part == "annotations":  # which Kubernetes reads so
                    domain = domain.lower()
                at_domain = len(domain) <= 253 and re.fullmatch(_DOMAIN, domain)
                if re.fullmatch(_LABEL, name) is None or (slash and not at_domain):
                    raise MisplacedError((part, key), _KEY_WORDS, of_name=True)
        size = sum(len(part.encode()) for entry in self.annotations.items() for part in entry)
        if size > _LARGEST:
            raise MisplacedError(
                ("annotations",), f"write at most {_LARGEST >> 10} KiB, names and texts together"
            )
        for key, value in self.labels.items():
            if value and re.fullmatch(_LABEL, value) is None:
                raise MisplacedError(("labels", key), _LABEL_WORDS)
        return self
