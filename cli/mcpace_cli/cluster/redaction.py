"""What leaves a cluster for a stranger's eyes, without what is secret. Pure.

Of an object whatever may hold a value is masked by its place: environment, commands, headers, Secrets. In
texts, which may say anything, what has the form of a credential is. Neither is proof, so whoever sends a
bundle reads it first.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final

MASK: Final = "***"
SHORTEST: Final = 6
"""Characters from which a known secret is looked for in texts: shorter ones are words."""
_DROPPED: Final = ("managedFields", "selfLink")
_ANNOTATIONS: Final = "annotations"
_COMMANDS: Final = ("command", "args")
_TERMINATED: Final = "terminated"
_VALUES: Final = ("value", "stringData", "binaryData")
_WORD: Final = (
    r"[\w.-]{0,40}(?:pass(?:word|wd|phrase)|pwd|secret|token|credential|authorization"
    r"|(?:api|private)[_-]?key)"
)
_SECRET: Final = re.compile(_WORD, re.IGNORECASE)
_NAMED: Final = rf"(?i)(\b{_WORD}\w*\\*[\"']?[ \t]*[=:][ \t]*"
"""What names a secret, in a text or in JSON that stands in a text of JSON; the group is still open."""
_QUOTED: Final = rf"{_NAMED}(\\*[\"']))(?:(?!\2)(?:\\.|[^\n]))+"
_ASSIGNED: Final = rf"{_NAMED})(?!\*\*\*|[{{\[]|\\*[\"'])[^\s\"',;&}}\]]+"
_QUERIED: Final = rf"(?i)([?&](?:{_WORD}|[\w.-]{{0,40}}(?:key|code|auth|sig(?:nature)?))=)[^\s&\"']+"
_CRASHED: Final = r"( ends with exit code -?\d+: )[^\n]*?(?=\. See kubectl logs |$)"
"""A status that quotes the last words of a server's log."""
_PATTERNS: Final = (
    (re.compile(_CRASHED, re.MULTILINE), rf"\1{MASK}"),
    (re.compile(r"-----BEGIN [^-]*PRIVATE KEY-----.*?(?:-----END [^-]*-----|\Z)", re.DOTALL), MASK),
    (re.compile(r"\beyJ[\w-]{8,}\.[\w-]+(?:\.[\w-]*)?"), MASK),
    (re.compile(r"(?i)\b(bearer|basic)\s+[\w.~+/=-]{6,}"), rf"\1 {MASK}"),
    (re.compile(r"(\b[a-z][a-z0-9+.-]{0,20}://)[^\s/\"']+@", re.IGNORECASE), rf"\1{MASK}@"),
    (re.compile(_QUOTED), rf"\1{MASK}"),
    (re.compile(_ASSIGNED), rf"\1{MASK}"),
    (re.compile(_QUERIED), rf"\1{MASK}"),
    (re.compile(r"\b(?:sk|pk|ghp|gho|ghs|glpat|xox[abp])[-_][\w-]{10,}"), MASK),
    (re.compile(r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b"), MASK),
)
"""The forms of credentials -> what stands there instead."""


def text(words: str, known: Collection[str] = ()) -> str:
    """A text without what has the form of a credential, and without those that are `known`."""
    for secret in sorted(known, key=len, reverse=True):
        if len(secret) >= SHORTEST:
            words = words.replace(secret, MASK)
    for pattern, instead in _PATTERNS:
        words = pattern.sub(instead, words)
    return words


def document(value: Any, known: Collection[str] = ()) -> Any:
    """An object of Kubernetes, or a part of one, with only what says nothing secret."""
    if isinstance(value, str):
        return text(value, known)
    if isinstance(value, Mapping):
        return _mapping(value, known)
    if isinstance(value, Sequence) and not isinstance(value, bytes):
        return [document(each, known) for each in value]
    return value


def _mapping(value: Mapping[Any, Any], known: Collection[str]) -> dict[Any, Any]:
    if value.get("kind") == "Secret":
        name, keys = (value.get("metadata") or {}).get("name"), sorted(value.get("data") or {})
        return {"kind": "Secret", "metadata": {"name": name}, "keys": keys}
    result: dict[Any, Any] = {}
    for name, each in value.items():
        if name in _DROPPED:
            continue
        if name == _ANNOTATIONS and isinstance(each, Mapping):
            # `kubectl apply` keeps the whole manifest in one of them, with all values.
            kept = {key: told for key, told in each.items() if "last-applied" not in key}
            result[name] = {key: text(str(told), known) for key, told in kept.items()}
        elif name in _COMMANDS and isinstance(each, Sequence) and not isinstance(each, str):
            result[name] = _command(each, known, first=name == "command")
        elif name == _TERMINATED and isinstance(each, Mapping) and "message" in each:
            # The kubelet quotes the end of the container's own log in it.
            result[name] = document({**each, "message": MASK}, known)
        elif name in _VALUES or (isinstance(each, str) and _SECRET.fullmatch(str(name))):
            result[name] = MASK
        else:
            result[name] = document(each, known)
    return result


def _command(words: Sequence[Any], known: Collection[str], *, first: bool) -> list[str]:
    """The program alone: what follows may be anything, a key too."""
    shown = [text(str(each), known) for each in words[:1]] if first else []
    rest = len(words) - len(shown)
    return [*shown, *([f"{MASK} ({rest} more)"] if rest else [])]
