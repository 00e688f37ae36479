"""The manifest that `mcpace run` runs: the McpServer of a file, and what stands beside it.

A file is read as a cluster reads it: what the API server refuses is refused here. Secrets and
ConfigMaps of the same file are what the McpServer's references lead to.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeVar

import yaml
from pydantic import Field

from mcpace_cli import places
from mcpace_cli.metadata import Metadata
from mcpace_operator.resource.models import API_VERSION, KIND, McpServerSpec
from mcpace_sidecar.contract.config import Model, parse_strictly, read_documents
from mcpace_sidecar.contract.config.base import Text
from mcpace_sidecar.contract.config.message import DocumentError, Problem
from mcpace_sidecar.contract.nearest import Vocabulary
from mcpace_sidecar.errors import ConfigError

NO_IMAGE: Final = "none"
"""Stands for the image that a laptop does not need."""

_CLUSTERS_OWN: Final = {
    "autoscaling": "autoscaling",
    "database": "database (no PgBouncer is started: set DATABASE_URL yourself)",
    "image_pull_policy": "imagePullPolicy",
    "image_pull_secrets": "imagePullSecrets",
    "network_policy": "networkPolicy",
    "pod_disruption_budget": "podDisruptionBudget",
    "pod_template": "podTemplate",
    "replicas": "replicas (one runs)",
    "resources": "resources",
    "security_context": "securityContext",
    "volume_mounts": "volumeMounts",
    "volumes": "volumes",
}
"""Fields that a laptop does nothing about -> how they are named."""


M = TypeVar("M", bound=Model)


class Resource(Model):
    """One McpServer, as it is applied."""

    api_version: Text
    kind: Text
    metadata: Metadata
    spec: McpServerSpec
    status: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Manifest:
    """One McpServer, and the Secrets and ConfigMaps of its file. `repr` leaves the Secrets out."""

    name: str
    """NAMESPACE/NAME."""
    spec: McpServerSpec
    secrets: Mapping[str, Mapping[str, bytes]] = field(repr=False)
    config_maps: Mapping[str, Mapping[str, str]]
    notes: tuple[str, ...]
    """What a person should know who runs it here."""


START_TIMEOUT: Final = "2m"
"""How long a process may take to start without a manifest: `npx` and `uvx` download the server first."""


def without_file(command: tuple[str, ...], port: int | None) -> Manifest:
    """What runs a command alone: a server of stdio, or one that listens on a port; ConfigError."""
    spec: dict[str, Any] = {"image": NO_IMAGE, "command": list(command)}
    if port is None:
        spec |= {"transport": "stdio", "stdio": {"startTimeout": START_TIMEOUT}}
    else:
        spec |= {"port": port}
    return Manifest("default/server", parse_strictly(McpServerSpec, spec), {}, {}, ())


def read(path: Path, name: str | None = None, command: tuple[str, ...] = ()) -> Manifest:
    """Read the one McpServer of a file, or the one of several that `name` names; ConfigError.

    `command`: what starts the server here, in place of what the manifest says.
    """
    documents = list(_documents(path))
    server = _chosen(path, _servers(path, documents), name)
    resource = _resource(path, _with_command(_with_image(server), command))
    namespace = resource.metadata.namespace
    secrets = {name: _secret(path, name, each) for name, each in _beside(documents, "Secret", namespace)}
    maps = {
        name: _config_map(path, name, each) for name, each in _beside(documents, "ConfigMap", namespace)
    }
    notes = [*_notes(resource.spec), *_others(documents, server, namespace)]
    if resource.spec.image == NO_IMAGE:
        notes.append("spec.image is missing: a cluster will want it")
    return Manifest(f"{namespace}/{resource.metadata.name}", resource.spec, secrets, maps, tuple(notes))


def names(path: Path) -> list[str]:
    """What the McpServers of a file are called, in their order; ConfigError."""
    return [_name(server) for server in _servers(path, list(_documents(path)))]


def resources(path: Path, name: str | None = None) -> list[Resource]:
    """Every McpServer of a file as it is, or the one that `name` names; ConfigError."""
    servers = _servers(path, list(_documents(path)))
    if name is None:
        return [_resource(path, _of_version(path, server)) for server in servers]
    return [_resource(path, _chosen(path, servers, name))]


def _servers(path: Path, documents: list[dict[str, Any]]) -> list[dict[str, Any]]:
    servers = [document for document in documents if document.get("kind") == KIND]
    if not servers:
        raise ConfigError(_no_server(path, documents))
    return servers


def _resource(path: Path, server: dict[str, Any]) -> Resource:
    try:
        return parse_strictly(Resource, {"metadata": {}} | server)
    except DocumentError as error:
        node = places.server(path, places.called(server))
        lines = [f"  {_where(node, problem)}{problem}" for problem in error.problems]
        raise ConfigError("\n".join([f"{path} cannot be used:", *lines])) from None
    except ConfigError as error:
        raise ConfigError(f"{path} cannot be used:\n  {error}") from None


def _where(node: yaml.Node | None, problem: Problem) -> str:
    if node is None:
        return ""
    line, column = places.place(node, problem.place, of_name=problem.of_name)
    return f"line {line}, column {column}: "


def _documents(path: Path) -> Iterator[dict[str, Any]]:
    for document in read_documents(path):
        if not isinstance(document, dict):
            raise ConfigError(
                f"{path} is no manifest: it holds {_kind_of(document)}, not fields like `kind:`"
            )
        if document.get("kind") == "List" and isinstance(document.get("items"), list):
            yield from (item for item in document["items"] if isinstance(item, dict))
        else:
            yield document


def _no_server(path: Path, documents: list[dict[str, Any]]) -> str:
    kinds = [str(document.get("kind")) for document in documents if document.get("kind")]
    words = f"{path} holds no {KIND}: its kind must be {KIND}"
    if not documents:
        return f"{words}, and it is empty"
    return f"{words}, not {', '.join(kinds)}" if kinds else f"{words}, and it has none"


def _chosen(path: Path, servers: list[dict[str, Any]], name: str | None) -> dict[str, Any]:
    names = [_name(server) for server in servers]
    listed = ", ".join(names)
    if name is None and len(servers) > 1:
        raise ConfigError(f"{path} holds several McpServers; choose one by --name: {listed}")
    if name is not None and name not in names:
        meant = Vocabulary(names).meant(name)
        raise ConfigError(f"{path} holds no {KIND} named {name}, but {listed}{meant}")
    if name is not None and names.count(name) > 1:
        raise ConfigError(f"{path} holds the {KIND} {name} {names.count(name)} times; write it once")
    return _of_version(path, servers[names.index(name) if name is not None else 0])


def _of_version(path: Path, server: dict[str, Any]) -> dict[str, Any]:
    version = server.get("apiVersion")
    if version != API_VERSION:
        raise ConfigError(f"{path}: the apiVersion must be {API_VERSION}, not {version}")
    return server


def _with_image(server: dict[str, Any]) -> dict[str, Any]:
    """The same with an image: what runs here is a command, or runs already."""
    spec = server.get("spec", {})
    if not isinstance(spec, dict) or "image" in spec:
        return server
    return server | {"spec": {"image": NO_IMAGE} | spec}


def _with_command(server: dict[str, Any], command: tuple[str, ...]) -> dict[str, Any]:
    """The same with the command of a server of stdio, where the manifest has none: it was given here."""
    spec = server.get("spec")
    if not command or not isinstance(spec, dict) or spec.get("transport") != "stdio" or "command" in spec:
        return server
    return server | {"spec": spec | {"command": list(command)}}


def _notes(spec: McpServerSpec) -> Iterator[str]:
    unused = [words for name, words in _CLUSTERS_OWN.items() if name in spec.model_fields_set]
    if unused:
        yield f"Only a cluster does something about: {', '.join(unused)}"
    limits = spec.rate_limits
    if limits is not None and "tiers" not in limits.model_fields_set:
        listed = "; ".join(tier.words for tier in limits.tiers)
        yield f"rateLimits without `tiers` limits each client by these: {listed}"


def _others(documents: list[dict[str, Any]], server: dict[str, Any], namespace: str) -> Iterator[str]:
    """What else the file holds, and whether it is read."""
    read: list[str] = []
    unread: list[str] = []
    for document in documents:
        if document is server or document.get("kind") == KIND:
            continue
        kind, there = document.get("kind"), _namespace(document)
        used = kind in ("Secret", "ConfigMap") and there == namespace
        elsewhere = f" of namespace {there}" if kind in ("Secret", "ConfigMap") and not used else ""
        (read if used else unread).append(f"{kind} {_name(document)}{elsewhere}")
    if read:
        yield f"Read from the same file: {', '.join(read)}"
    if unread:
        yield f"Only a cluster does something about: {', '.join(unread)}"


def _beside(
    documents: list[dict[str, Any]], kind: str, namespace: str
) -> Iterator[tuple[str, dict[str, Any]]]:
    for document in documents:
        if document.get("kind") == kind and _namespace(document) == namespace:
            yield _name(document), document


def _name(document: dict[str, Any]) -> str:
    metadata = document.get("metadata")
    return str(metadata.get("name", "")) if isinstance(metadata, dict) else ""


def _namespace(document: dict[str, Any]) -> str:
    metadata = document.get("metadata")
    return str(metadata.get("namespace", "default")) if isinstance(metadata, dict) else "default"


class _Secret(Model):
    data: dict[str, str] = Field(default={})
    string_data: dict[str, str] = Field(default={})


class _ConfigMap(Model):
    data: dict[str, str] = Field(default={})


def _secret(path: Path, name: str, document: dict[str, Any]) -> dict[str, bytes]:
    parts = {key: value for key, value in document.items() if key in ("data", "stringData")}
    secret = _entries(_Secret, f"{path}: Secret {name}", parts)
    for key in (*secret.data, *secret.string_data):
        if re.fullmatch(r"(?!\.\.?$)[-._A-Za-z0-9]{1,253}", key) is None:
            raise ConfigError(
                f"{path}: Secret {name}: a key must be letters, digits and - . _, not {key!r}"
            )
    entries = {}
    for key, text in secret.data.items():
        try:
            entries[key] = base64.b64decode(re.sub(r"\s", "", text), validate=True)
        except (binascii.Error, ValueError):
            raise ConfigError(
                f"{path}: Secret {name}: data.{key} is no base64; write it so, or under stringData as it is"
            ) from None
    return entries | {key: text.encode() for key, text in secret.string_data.items()}


def _config_map(path: Path, name: str, document: dict[str, Any]) -> dict[str, str]:
    parts = {"data": document["data"]} if "data" in document else {}
    return dict(_entries(_ConfigMap, f"{path}: ConfigMap {name}", parts).data)


def _entries(cls: type[M], what: str, parts: dict[str, Any]) -> M:
    try:
        return parse_strictly(cls, parts)
    except ConfigError as error:
        raise ConfigError(f"{what}: {error}") from None


def _kind_of(document: Any) -> str:
    return "a list" if isinstance(document, list) else "one value"


class _Reference(Model):
    name: str = ""
    key: str = ""
    optional: bool = False


class _Source(Model):
    secret_key_ref: _Reference | None = None
    config_map_key_ref: _Reference | None = None
    field_ref: dict[str, Any] | None = None
    resource_field_ref: dict[str, Any] | None = None
    file_key_ref: dict[str, Any] | None = None


class _Variable(Model):
    name: str = Field(min_length=1)
    value: str | None = None
    value_from: _Source | None = None


class _All(Model):
    prefix: str = ""
    secret_ref: _Reference | None = None
    config_map_ref: _Reference | None = None


class _Environment(Model):
    env: tuple[_Variable, ...] = ()
    env_from: tuple[_All, ...] = ()


def environment(manifest: Manifest) -> tuple[dict[str, str], list[str]]:
    """The variables of `env` and `envFrom`, and what could not be read, in words; ConfigError."""
    spec = manifest.spec
    wanted = _entries(_Environment, "spec", {"env": list(spec.env), "envFrom": list(spec.env_from)})
    values: dict[str, str] = {}
    missing: list[str] = []
    for number, source in enumerate(wanted.env_from):
        for reference, kind, known in _referred(manifest, source.secret_ref, source.config_map_ref):
            if reference.name in known:
                for key, value in known[reference.name].items():
                    values[source.prefix + key] = _decoded(value)
            elif not reference.optional:
                missing.append(f"envFrom[{number}]: the {kind} {reference.name} is not in the file")
    for variable in wanted.env:
        if variable.value_from is None:
            values[variable.name] = expanded(variable.value or "", values)
            continue
        origin = variable.value_from
        for reference, kind, known in _referred(manifest, origin.secret_key_ref, origin.config_map_key_ref):
            entry = known.get(reference.name, {}).get(reference.key)
            if entry is not None:
                values[variable.name] = _decoded(entry)
            elif not reference.optional:
                what = f"the key {reference.key} of the {kind} {reference.name}"
                missing.append(f"env {variable.name}: {what} is not in the file")
        if not (origin.secret_key_ref or origin.config_map_key_ref):
            missing.append(f"env {variable.name}: only a cluster knows its fieldRef or resourceFieldRef")
    return values, missing


def _referred(
    manifest: Manifest, secret: _Reference | None, config_map: _Reference | None
) -> Iterator[tuple[_Reference, str, Mapping[str, Mapping[str, Any]]]]:
    if secret is not None:
        yield secret, "Secret", manifest.secrets
    if config_map is not None:
        yield config_map, "ConfigMap", manifest.config_maps


def _decoded(value: bytes | str) -> str:
    return value.decode("utf-8", "surrogateescape") if isinstance(value, bytes) else value


def expanded(text: str, values: Mapping[str, str]) -> str:
    """`$(NAME)` replaced as Kubernetes does: `$$` is one `$`, an unknown name stays as it is."""

    def replaced(match: re.Match[str]) -> str:
        return "$" if match[0] == "$$" else values.get(match[1], match[0])

    return re.sub(r"\$\$|\$\(([A-Za-z_.-][A-Za-z0-9_.-]*)\)", replaced, text)
