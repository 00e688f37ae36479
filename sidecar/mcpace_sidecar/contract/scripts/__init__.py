"""What runs inside Redis: six short scripts, each alone or all as one library of functions.

A function (Redis 7) is loaded once, by who may, and Redis keeps it in its files: a user may then call
it who may run no program of its own. A script is sent by whoever runs it, and forgotten when Redis ends:
for a Redis before 7, and where nobody loads the library.
Source: Redis, "Redis functions" and "Scripting with Lua".
"""

from __future__ import annotations

import hashlib
from importlib.resources import files
from typing import Final

MOST_KEYS: Final = 64
"""Keys of one call of a function; a call has a handful of charges."""


class Script:
    """A Lua script, known by its digest, and by the name of the function that does the same."""

    __slots__ = ("digest", "function", "text")

    def __init__(self, name: str, text: str, version: str) -> None:
        self.text = text.encode()
        self.digest = hashlib.sha1(self.text).hexdigest().encode()  # noqa: S324 - because Redis names scripts so
        self.function = f"mcpace_{name}_{version}".encode()


def _texts(*names: str) -> dict[str, str]:
    folder = files(__name__)
    return {name: folder.joinpath(f"{name}.lua").read_text("utf-8") for name in names}


_TEXTS: Final = _texts("take", "give", "present", "claim", "record", "peers")
_VERSION: Final = hashlib.sha256("".join(_TEXTS.values()).encode()).hexdigest()[:12]
"""Versions live side by side: sidecars older and newer than the operator call their own."""
SCRIPTS: Final = {name: Script(name, text, _VERSION) for name, text in _TEXTS.items()}
TAKE: Final = SCRIPTS["take"]
GIVE: Final = SCRIPTS["give"]
PRESENT: Final = SCRIPTS["present"]
CLAIM: Final = SCRIPTS["claim"]
RECORD: Final = SCRIPTS["record"]
PEERS: Final = SCRIPTS["peers"]
BEFORE: Final = tuple(Script(name, text, "") for name, text in _texts("before/take", "before/give").items())
"""As sidecars from before the functions run them, by digest: for them an operator loads these too."""


def library() -> str:
    """The library's source, for FUNCTION LOAD."""
    registered = "".join(
        f"redis.register_function('{script.function.decode()}',"
        f" bounded(function(KEYS, ARGV)\n{_TEXTS[name]}end))\n"
        for name, script in SCRIPTS.items()
    )
    return f"""#!lua name=mcpace_{_VERSION}
local function bounded(run)
  return function(keys, arguments)
    if #keys > {MOST_KEYS} then return redis.error_reply('ERR too many keys') end
    return run(keys, arguments)
  end
end
{registered}"""
