"""What is wrong with a document, in words for the person who wrote it: where, and what to write instead.

The one place that knows the library's errors. `WORDS` holds a sentence for each type of them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final, NamedTuple, get_args

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from mcpace_sidecar.contract.config.base import PATTERNS, MisplacedError, Model
from mcpace_sidecar.contract.nearest import Vocabulary
from mcpace_sidecar.contract.rules import Location
from mcpace_sidecar.errors import ConfigError


class Problem(NamedTuple):
    """One thing that is wrong with a document."""

    place: Location
    """Where: from the whole document, which itself is ()."""
    words: str
    """What to write instead."""
    of_name: bool = False
    """Whether it is the field's name that is wrong, and not what it holds."""

    def __str__(self) -> str:
        return f"{dotted(self.place)}: {self.words}" if self.place else self.words


class DocumentError(ConfigError):
    """A document that is not what it should be: a line a problem."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(dict.fromkeys(problems))
        super().__init__("\n".join(map(str, self.problems)))


def explain(error: ValidationError, cls: type[Model], document: Any) -> Iterator[Problem]:
    """What is wrong; `document` is what `cls` was made from."""
    for each in error.errors(include_url=False):
        words = _words(each, cls, document)
        if words is not None:
            cause = each.get("ctx", {}).get("error")
            of_name = each["type"] == "extra_forbidden" or getattr(cause, "of_name", False)
            yield Problem(_place(each), words, of_name)


def dotted(location: Iterable[int | str]) -> str:
    """`("tiers", 0, "name")` as people write it: `tiers[0].name`."""
    text = ""
    for part in location:
        if isinstance(part, int):
            text += f"[{part}]"
        elif re.fullmatch(r"[A-Za-z0-9_-]+", part):
            text += f".{part}"
        else:
            text += f"[{json.dumps(part, ensure_ascii=False)}]"
    return text.removeprefix(".")


def _place(problem: ErrorDetails) -> Location:
    cause = problem.get("ctx", {}).get("error")
    return (*problem["loc"], *cause.path) if isinstance(cause, MisplacedError) else problem["loc"]


def _words(problem: ErrorDetails, cls: type[Model], document: Any) -> str | None:
    kind, location = problem["type"], problem["loc"]
    if kind == "extra_forbidden":
        return "there is no such field" + _meant(cls, location)
    if kind == "too_short" and len(_at(document, location) or ()) >= problem["ctx"]["min_length"]:
        return None  # its items are wrong, and each is named
    beside = _fields_at(cls, location) if kind == "model_type" else []
    if isinstance(problem["input"], str) and "name" in beside:
        more = ", and beside it what else is said of it" if beside != ["name"] else ""
        return f"write {{name: {_flow(problem['input'])}}}{more}"
    words = WORDS.get(kind)
    return words(problem) if words is not None else f"cannot be used ({kind})"


def _flow(text: str) -> str:
    """A text as it stands within braces; in quotes where it must."""
    return text if re.fullmatch(r"[A-Za-z_][\w./-]*", text) else json.dumps(text, ensure_ascii=False)


def _text(problem: ErrorDetails) -> str:
    given = problem["input"]
    if isinstance(given, bool | int | float):
        return f'write text, in quotes: "{json.dumps(given)}"'
    return "write text"


def _integer(problem: ErrorDetails) -> str:
    given = problem["input"]
    if isinstance(given, str) and re.fullmatch(r"-?[0-9]{1,18}", given):
        return f"write a whole number, without quotes: {given}"
    return "write a whole number, such as 10"


def _boolean(problem: ErrorDetails) -> str:
    quoted = isinstance(problem["input"], str)
    return "write true or false" + (", without quotes" if quoted else "")


def _fields(problem: ErrorDetails) -> str:
    given = "a list" if isinstance(problem["input"], list) else "one value"
    return f"write fields below it, not {given}"


def _choice(problem: ErrorDetails) -> str:
    choices = re.findall(r"'([^']*)'", problem["ctx"]["expected"])
    meant = Vocabulary(choices).meant(problem["input"]) if isinstance(problem["input"], str) else ""
    return (
        f"write {', '.join(choices[:-1])} or {choices[-1]}{meant}" if choices[1:] else f"write {choices[0]}"
    )


def _empty(problem: ErrorDetails) -> str:
    least = problem["ctx"]["min_length"]
    return "must not be empty" if least == 1 else f"write at least {least} characters"


def _pattern(problem: ErrorDetails) -> str:
    pattern = problem["ctx"]["pattern"]
    return PATTERNS.get(pattern, f"write text of the form {pattern}")


def _few(problem: ErrorDetails) -> str:
    least = problem["ctx"]["min_length"]
    return "must not be empty" if least == 1 else f"write at least {least} of them"


def _many(problem: ErrorDetails) -> str:
    return f"write at most {problem['ctx']['max_length']} of them"


def _own(problem: ErrorDetails) -> str:
    return str(problem["ctx"]["error"])


WORDS: Final[dict[str, Callable[[ErrorDetails], str]]] = {
    "bool_type": _boolean,
    "dict_type": _fields,
    "finite_number": lambda _: "write a number, such as 0.5",
    "float_type": lambda _: "write a number without quotes, such as 0.5",
    "greater_than_equal": lambda p: f"write {p['ctx']['ge']} or more",
    "int_from_float": lambda _: "write a whole number, such as 10",
    "int_type": _integer,
    "less_than_equal": lambda p: f"write {p['ctx']['le']} or less",
    "literal_error": _choice,
    "missing": lambda _: "is required, and missing",
    "model_type": _fields,
    "string_pattern_mismatch": _pattern,
    "string_too_long": lambda p: f"write at most {p['ctx']['max_length']} characters",
    "string_too_short": _empty,
    "string_type": _text,
    "too_long": _many,
    "too_short": _few,
    "tuple_type": lambda _: "write a list: lines below it that begin with '-'",
    "value_error": _own,
}
"""Type of an error of the library -> what to write instead."""


def _at(document: Any, location: Iterable[int | str]) -> Any:
    for part in location:
        try:
            document = document[part]
        except (KeyError, IndexError, TypeError):
            return None
    return document


def _meant(cls: type[Model], location: Location) -> str:
    """`; did you mean …?`: a field beside it, or the one place where a field of that name is."""
    *parents, name = location
    known = _fields_at(cls, parents)
    if not known:
        return ""
    word = str(name)
    beside = Vocabulary(known).meant(word)
    if beside:
        return beside
    elsewhere = [path for path in _paths(cls) if path.rpartition(".")[2] == word]
    return f"; did you mean {elsewhere[0]}?" if len(elsewhere) == 1 else ""


def _fields_at(cls: type[Model], location: Iterable[int | str]) -> list[str]:
    """The fields that may be written there; none where it holds no model."""
    model: type[Model] | None = cls
    for part in location:
        if isinstance(part, str) and model is not None:
            model = models_of(model).get(part)
    return names_of(model) if model is not None else []


def names_of(cls: type[Model]) -> list[str]:
    """The fields, as they are written."""
    return [field.alias or name for name, field in cls.model_fields.items()]


def models_of(cls: type[Model]) -> dict[str, type[Model]]:
    """The fields that hold further fields."""
    found = {}
    for name, field in cls.model_fields.items():
        model = _model(field.annotation)
        if model is not None:
            found[field.alias or name] = model
    return found


def _model(annotation: Any) -> type[Model] | None:
    if isinstance(annotation, type) and issubclass(annotation, Model):
        return annotation
    return next((found for part in get_args(annotation) if (found := _model(part)) is not None), None)


def _paths(cls: type[Model], prefix: str = "") -> Iterator[str]:
    """Every field, as `spec.cache.tools[].ttl`."""
    models = models_of(cls)
    for name, field in cls.model_fields.items():
        alias = field.alias or name
        model = models.get(alias)
        yield f"{prefix}{alias}"
        if model is not None:
            many = "" if field.annotation is model or type(None) in get_args(field.annotation) else "[]"
            yield from _paths(model, f"{prefix}{alias}{many}.")
