"""Reading a configuration: from YAML to models, with words for the person who wrote it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import ValidationError

from mcpace_sidecar.config.base import Model
from mcpace_sidecar.errors import ConfigError

M = TypeVar("M", bound=Model)


def parse(cls: type[M], document: Any) -> tuple[M, tuple[str, ...]]:
    """Validate a document; return the model and the paths of the fields it does not know.

    An older sidecar must run under a newer operator, so unknown fields are left out
    and reported instead of refused. Raises ConfigError with one line a problem.
    """
    ignored: list[str] = []
    while True:
        try:
            return cls.model_validate(document), tuple(ignored)
        except ValidationError as error:
            unknown = [e["loc"] for e in error.errors() if e["type"] == "extra_forbidden"]
            if not unknown:
                raise ConfigError(explain(error)) from None
            for location in unknown:
                document = _without(document, location)
                ignored.append(dotted(location))


def read_yaml(path: Path) -> Any:
    """Return the one document of a YAML file; ConfigError if it cannot be read."""
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not YAML: {error}") from error


def explain(error: ValidationError) -> str:
    """A validation error in words for the person who wrote the manifest, a line a problem."""
    lines = []
    for problem in error.errors():
        words = str(problem["msg"]).removeprefix("Value error, ")
        lines.append(f"{dotted(problem['loc'])}: {words}" if problem["loc"] else words)
    return "\n".join(lines)


def dotted(location: Iterable[int | str]) -> str:
    """`("tiers", 0, "name")` as people write it: `tiers[0].name`."""
    text = ""
    for part in location:
        text += f"[{part}]" if isinstance(part, int) else f".{part}"
    return text.removeprefix(".")


def _without(document: Any, location: tuple[int | str, ...]) -> Any:
    key, *rest = location
    if isinstance(document, dict):
        if not rest:
            return {k: v for k, v in document.items() if k != key}
        return document | {key: _without(document[key], tuple(rest))}
    return [_without(item, tuple(rest)) if i == key else item for i, item in enumerate(document)]
