"""Reading a configuration: from YAML to models, as a cluster reads it."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Hashable, Iterator
from pathlib import Path
from typing import Any, Final, TypeVar

import yaml
from pydantic import ValidationError

from mcpace_sidecar.contract.config.base import Model
from mcpace_sidecar.contract.config.message import (
    DocumentError,
    Problem,
    dotted,
    explain,
    models_of,
    names_of,
)
from mcpace_sidecar.contract.rules import Location
from mcpace_sidecar.errors import ConfigError

M = TypeVar("M", bound=Model)

_LARGEST: Final = 200_000
"""Values in a file; an API server takes objects of 1.5 MiB."""
_DEEPEST: Final = 64
"""Levels of a document; a pod has some twenty."""
_DEEP_WORDS: Final = f"it is nested more than {_DEEPEST} levels deep"


def parse(cls: type[M], document: Any) -> tuple[M, tuple[str, ...]]:
    """Validate a document; return the model and the paths of the fields it does not know.

    An older sidecar must run under a newer operator, so unknown fields are left out
    and reported instead of refused. Raises DocumentError.
    """
    document = _as_json(document)
    ignored: list[str] = []
    while True:
        try:
            return _validated(cls, document), tuple(ignored)
        except ValidationError as error:
            unknown = [e["loc"] for e in error.errors() if e["type"] == "extra_forbidden"]
            if not unknown:
                raise DocumentError(explain(error, cls, document)) from None
            for location in unknown:
                document = _without(document, location)
                ignored.append(dotted(location))


def parse_strictly(cls: type[M], document: Any) -> M:
    """Validate a document; unknown fields are refused. Raises DocumentError."""
    document = _as_json(document)
    try:
        return _validated(cls, document)
    except ValidationError as error:
        raise DocumentError(explain(error, cls, document)) from None


def _as_json(document: Any) -> Any:
    """The document as an API server is sent it: names are texts. ConfigError for what is no JSON."""
    try:
        told = json.loads(json.dumps(document, ensure_ascii=False).encode())
    except (TypeError, ValueError) as error:
        raise ConfigError(f"write what JSON can hold too: {error}") from None
    except RecursionError:
        raise ConfigError(_DEEP_WORDS) from None
    if _is_deep(told):
        raise ConfigError(_DEEP_WORDS)
    return told


def _is_deep(document: Any) -> bool:
    level = [document] if isinstance(document, dict | list) else []
    for _ in range(_DEEPEST):
        parts = (each.values() if isinstance(each, dict) else each for each in level)
        level = [part for each in parts for part in each if isinstance(part, dict | list)]
        if not level:
            return False
    return True


def _validated(cls: type[M], document: Any) -> M:
    """A document as a model: types as they are written, fields by their camelCase names.

    Raises ValidationError, or DocumentError where a field is null. By way of JSON, as an API server
    reads it: there a list is what a tuple is made from, while a text is no number.
    """
    told, nulls = _told(cls, document)
    if nulls:
        raise DocumentError(Problem(place, "write a value, or leave it out") for place in nulls)
    return cls.model_validate_json(json.dumps(told), strict=True, by_alias=True, by_name=False)


def changes(before: Model, after: Model) -> list[str]:
    """The fields that differ, as people write them: `rateLimits.tiers[0].requestsPerMinute: 2 -> 3`."""
    return [*_changes(before.model_dump(by_alias=True), after.model_dump(by_alias=True), ())]


def _changes(before: Any, after: Any, path: Location) -> Iterator[str]:
    if before == after:
        return
    if isinstance(before, dict) and isinstance(after, dict):
        for name in dict.fromkeys([*before, *after]):
            yield from _changes(before.get(name), after.get(name), (*path, name))
    elif isinstance(before, tuple) and isinstance(after, tuple) and len(before) == len(after):
        for number, (old, new) in enumerate(zip(before, after, strict=True)):
            yield from _changes(old, new, (*path, number))
    elif before is None or isinstance(before, str | int | float):
        short = after is None or isinstance(after, str | int | float)
        yield f"{dotted(path)}: {_shown(before)} -> {_shown(after)}" if short else f"{dotted(path)} is new"
    else:
        yield f"{dotted(path)} is gone" if after is None else dotted(path)


def _shown(value: Any) -> str:
    return "unset" if value is None else str(value)


def read_yaml(path: Path) -> Any:
    """Return the one document of a YAML file, None where it is empty; ConfigError."""
    documents = [document for document, _ in _documents(path, _Loader)]
    if len(documents) > 1:
        raise ConfigError(f"{path} holds {len(documents)} documents; write one")
    return documents[0] if documents else None


def read_documents(path: Path) -> list[Any]:
    """Return the documents of a YAML file that say something; ConfigError if it cannot be read."""
    return [document for document, _ in read_located(path)]


def read_located(path: Path) -> list[tuple[Any, yaml.Node]]:
    """The same, each with its nodes, which know where in the file they stand.

    Read as kubectl reads it: a key written twice is refused, a date is text, `1:30` too, and `y` is true.
    """
    return _documents(path, _ManifestLoader)


class UnreadableError(ConfigError):
    """A file that is no YAML, or none that a cluster would take. `line`, `column`: where, from 1."""

    def __init__(self, path: Path, words: str, mark: yaml.Mark | None = None) -> None:
        """`words` follow the file's name."""
        self.words = words.lstrip(": ")
        self.line, self.column = (mark.line + 1, mark.column + 1) if mark is not None else (1, 1)
        where = f", line {self.line}, column {self.column}" if mark is not None else ""
        super().__init__(f"{path}{where}{words}")


def _documents(path: Path, loader: type[yaml.SafeLoader]) -> list[tuple[Any, yaml.Node]]:
    try:
        text = path.read_text(encoding="utf-8")
        documents = list(_composed(loader(text)))  # both loaders are SafeLoaders
        if sum(_size(document, {}) for document, _ in documents) > _LARGEST:
            raise UnreadableError(path, " is too large, or repeats itself too often by its aliases")
        return [(document, node) for document, node in documents if document is not None]
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UnreadableError(path, " is not UTF-8") from error
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        words = f"{'' if isinstance(error, _TwiceError) else ' is not YAML'}: {error.problem}"
        raise UnreadableError(path, words, mark) from error
    except yaml.reader.ReaderError as error:
        at = error.position
        line, column = text.count("\n", 0, at), at - (text.rfind("\n", 0, at) + 1)
        words = f" is not YAML: it holds the character U+{int(error.character):04X}; take it out"
        mark = yaml.Mark(str(path), at, line, column, None, 0)
        raise UnreadableError(path, words, mark) from error
    except yaml.YAMLError as error:
        raise UnreadableError(path, f" is not YAML: {error}") from error
    except RecursionError as error:
        raise UnreadableError(path, " cannot be read: it is nested too deeply, or in itself") from error
    except (LookupError, ValueError) as error:
        words = "a number is too long, or a value not what its tag says"
        raise UnreadableError(path, f" cannot be read: {words}") from error


def _composed(loader: yaml.SafeLoader) -> Iterator[tuple[Any, yaml.Node]]:
    try:
        while loader.check_node():
            node = loader.get_node()
            assert node is not None, "one was there"
            yield loader.construct_document(node), node
    finally:
        loader.dispose()


def _size(document: Any, known: dict[int, int]) -> int:
    """Values of a document with its aliases written out; RecursionError where it holds itself."""
    if not isinstance(document, dict | list):
        return 1
    size = known.get(id(document))
    if size is None:
        parts = document.values() if isinstance(document, dict) else document
        size = known[id(document)] = 1 + sum(_size(part, known) for part in parts)
    return size


class _TwiceError(yaml.MarkedYAMLError):
    """A key that stands twice in one mapping."""


_KINDS: Final = ("map", "seq", "str", "int", "float", "bool", "null")


class _Loader(yaml.SafeLoader):
    """YAML as the API server understands it."""

    yaml_implicit_resolvers = {  # noqa: RUF012 - because the base class has it so
        first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    yaml_constructors = {  # noqa: RUF012 - the same; what JSON cannot hold, no API server is sent
        tag: construct
        for tag, construct in yaml.SafeLoader.yaml_constructors.items()
        if tag is None or tag.rpartition(":")[2] in _KINDS
    }

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.tag != "tag:yaml.org,2002:merge":
                if key.value in seen:
                    problem = f"the key '{key.value}' stands twice in one place; write it once"
                    raise _TwiceError(problem=problem, problem_mark=key.start_mark)
                seen.add(key.value)
        return super().construct_mapping(node, deep)


_NUMBER: Final = re.compile(
    r"[-+]?(0[xX][0-9a-fA-F_]+|0[oO][0-7_]+|0[bB][01_]+"
    r"|(\.[0-9_]+|[0-9][0-9_]*(\.[0-9_]*)?)([eE][-+]?[0-9]+)?)$"
)
_TRUE: Final = ("y", "yes", "true", "on")
_FALSE: Final = ("n", "no", "false", "off")
_BOOL: Final = re.compile(
    "|".join(rf"{form}$" for word in _TRUE + _FALSE for form in (word, word.title(), word.upper()))
)
_RESOLVED: Final = (
    ("bool", _BOOL, "yYnNtTfFoO"),
    ("int", _NUMBER, "-+.0123456789"),
    ("float", re.compile(r"([-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN))$"), "-+."),
    ("null", re.compile(r"(~|null|Null|NULL|)$"), ("~", "n", "N", "")),
    ("merge", re.compile(r"<<$"), "<"),
)
"""(what a plain text is, how it is told, what it may begin with), the first that fits."""


class _ManifestLoader(_Loader):
    """Plain texts as kubectl takes them. Source: go-yaml v2, resolve.go."""

    yaml_implicit_resolvers = {  # noqa: RUF012 - as the base class has it
        first: [
            (f"tag:yaml.org,2002:{tag}", pattern) for tag, pattern, firsts in _RESOLVED if first in firsts
        ]
        for first in {each for _, _, firsts in _RESOLVED for each in firsts}
    }


def _boolean(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> bool:
    word = str(loader.construct_scalar(node)).lower()
    if word not in _TRUE + _FALSE:
        raise ValueError(word)
    return word in _TRUE


def _number(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> Any:
    """A number; one beyond a float's range is text."""
    written = str(loader.construct_scalar(node))
    text = written.replace("_", "")
    if re.fullmatch(r"[-+]?0([xXoObB].+|[0-7]+)", text):
        sign, digits = (-1, text[1:]) if text[0] == "-" else (1, text.lstrip("+"))
        return sign * int(digits if digits[1].isalpha() else f"0o{digits}", 0)
    if re.fullmatch(r"[-+]?[0-9]+", text):
        return int(text)
    number = float(text)
    if math.isinf(number):
        return written
    return int(number) if number.is_integer() and abs(number) < 1 << 63 else number


_ManifestLoader.add_constructor("tag:yaml.org,2002:bool", _boolean)
_ManifestLoader.add_constructor("tag:yaml.org,2002:int", _number)


def _told(cls: type[Model], document: Any, path: Location = ()) -> tuple[Any, list[Location]]:
    """The document without the fields that are null, and where those were.

    An API server refuses null where a field of ours is, and keeps it in what is written as in a pod.
    """
    if not isinstance(document, dict):
        return document, []
    models = models_of(cls)
    known = names_of(cls)
    told: dict[Any, Any] = {}
    nulls: list[Location] = []
    for name, value in document.items():
        here = (*path, name)
        inner = models.get(name)
        if value is None and name in known:
            nulls.append(here)
        elif inner is not None and isinstance(value, list):
            items = [_told(inner, item, (*here, number)) for number, item in enumerate(value)]
            told[name] = [item for item, _ in items]
            nulls += [place for _, places in items for place in places]
        elif inner is not None:
            told[name], places = _told(inner, value, here)
            nulls += places
        else:
            told[name] = value
    return told, nulls


def _without(document: Any, location: tuple[int | str, ...]) -> Any:
    key, *rest = location
    if isinstance(document, dict):
        if not rest:
            return {k: v for k, v in document.items() if k != key}
        return document | {key: _without(document[key], tuple(rest))}
    return [_without(item, tuple(rest)) if i == key else item for i, item in enumerate(document)]
