"""The release's master key: every password is derived from it, so that none is stored or read.

`current` is what passwords are derived from. While there is a `previous` as well, Redis takes what is
derived from either: so the key is changed without a server that is locked out meanwhile.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal

from mcpace_sidecar.contract import environment
from mcpace_sidecar.errors import ConfigError

SHORTEST: Final = 32
"""Characters of a key."""
WORDS: Final = f"a random text of {SHORTEST} characters or more, such as `openssl rand -hex 32` prints"

_VARIABLES: Final = {
    "current": environment.MASTER_KEY,
    "previous": environment.MASTER_KEY_PREVIOUS,
    "masterKey": environment.MASTER_KEY_LEGACY,
    "redisPassword": environment.REDIS_PASSWORD_LEGACY,
}
"""Key of the Secret -> the variable that holds it."""

Purpose = Literal["redis", "redis-admin", "admin", "session"]
"""A server's own Redis user, the operator's user in an embedded Redis, a sidecar's admin port, a server's
sessions."""


@dataclass(frozen=True, slots=True)
class MasterKey:
    """`legacy`: the password of the embedded Redis in releases that drew one at random."""

    current: bytes = field(default=b"", repr=False)
    previous: bytes = field(default=b"", repr=False)
    legacy: str = field(default="", repr=False)

    @classmethod
    def from_environment(cls) -> MasterKey | None:
        """Read MCPACE_MASTER_KEY and its kin; None where there is no key yet. ConfigError."""
        return cls._read({name: variable.read() or "" for name, variable in _VARIABLES.items()})

    @classmethod
    def from_folder(cls, folder: Path) -> MasterKey | None:
        """Read the mounted Secret; None where it holds no key. ConfigError.

        To the byte, as a container's environment has it: a newline at its end is a part of the key.
        """
        found = {name: folder / name for name in _VARIABLES}
        return cls._read(
            {
                name: path.read_bytes().decode("utf-8", "surrogateescape") if path.exists() else ""
                for name, path in found.items()
            }
        )

    @classmethod
    def _read(cls, values: Mapping[str, str]) -> MasterKey | None:
        # An older chart drew the key itself, and called it masterKey.
        current, previous = values["current"] or values["masterKey"], values["previous"]
        if not current:
            return None
        if min(len(current), len(previous or current)) < SHORTEST:
            raise ConfigError(f"the master key is too short: it must be {WORDS}")
        try:
            return cls(current.encode(), previous.encode(), values["redisPassword"])
        except UnicodeEncodeError:
            raise ConfigError(f"the master key is no text: it must be {WORDS}") from None

    def derive(self, purpose: Purpose, whose: str) -> str:
        """A secret for one purpose: the same at every start, known to nobody else.

        Source: RFC 2104, with SHA-256.
        """
        return _derived(self.current, purpose, whose)

    def accepted(self, purpose: Purpose, whose: str) -> list[str]:
        """Every secret that shall do: the current one first, and the previous one's while there is one."""
        return [_derived(key, purpose, whose) for key in (self.current, self.previous) if key]

    def administering(self, store: str) -> list[str]:
        """What the operator may log in to an embedded Redis with, the best first."""
        return [*self.accepted("redis-admin", store), *([self.legacy] if self.legacy else [])]


def login(passwords: list[str]) -> list[str]:
    """The passwords as rules of Redis's ACL, hashed, so that no file and no command holds them."""
    return [f"#{hashlib.sha256(password.encode()).hexdigest()}" for password in passwords]


def write_login(store: str, folder: Path, users: Path) -> None:
    """Write into an embedded Redis's file of users who administers it; the others stay. ConfigError."""
    key = MasterKey.from_folder(folder)
    if key is None:
        raise ConfigError(f"the Secret mounted at {folder} holds no `current`: {WORDS}")
    lines = users.read_text("utf-8").splitlines() if users.exists() else []
    lines = [line for line in lines if line and not line.startswith("user default ")]
    administrator = ["user default on ~* &* +@all", *login(key.administering(store))]
    users.write_text("\n".join([" ".join(administrator), *lines, ""]), "utf-8")


def _derived(key: bytes, purpose: str, whose: str) -> str:
    return hmac.new(key, f"{purpose}/{whose}".encode(), hashlib.sha256).hexdigest()
