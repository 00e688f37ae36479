"""The schemas of the oldest and the newest Kubernetes that are supported, as published with each."""

from __future__ import annotations

from typing import Any, Final

import kubernetes_validate
from kubernetes_validate import SchemaNotFoundError, ValidationError

VERSIONS: Final = ("1.30", kubernetes_validate.latest_version())
OTHERS: Final = ("mcpace.dev/", "monitoring.coreos.com/")
"""Kinds of these come with schemas of their own."""


def refusals(document: dict[str, Any]) -> list[str]:
    """What either version has against the object; unknown fields are refused."""
    if document["apiVersion"].startswith(OTHERS):
        return []
    found = []
    for version in VERSIONS:
        try:
            kubernetes_validate.validate(document, version, strict=True)
        except ValidationError as error:
            place = ".".join(map(str, error.path))
            found.append(
                f"{version}: {document['kind']} {document['metadata']['name']}: {place}: {error.message}"
            )
        except SchemaNotFoundError:
            found.append(f"{version} has no {document['apiVersion']} {document['kind']}")
    return found
