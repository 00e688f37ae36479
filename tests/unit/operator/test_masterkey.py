"""Passwords of one key: the same at every start, told apart by purpose and owner, taken while it changes."""

from __future__ import annotations

import hashlib
from itertools import product
from pathlib import Path

import pytest

from mcpace_operator.masterkey import MasterKey, login, write_login
from mcpace_sidecar.errors import ConfigError

OLD, NEW = b"o" * 32, b"n" * 32
PURPOSES = ("redis", "redis-admin", "admin")


def test_every_purpose_and_owner_has_a_password_of_its_own() -> None:
    ways = list(product((OLD, NEW), PURPOSES, ("one", "two")))
    assert len({MasterKey(key).derive(purpose, whose) for key, purpose, whose in ways}) == len(ways)
    assert MasterKey(OLD).derive("redis", "one") == MasterKey(OLD, NEW).derive("redis", "one")


def test_while_the_key_changes_both_passwords_do_and_the_current_comes_first() -> None:
    key = MasterKey(NEW, OLD, "drawn")
    assert key.accepted("redis", "one") == [
        MasterKey(NEW).derive("redis", "one"),
        MasterKey(OLD).derive("redis", "one"),
    ]
    assert MasterKey(NEW).accepted("redis", "one") == [MasterKey(NEW).derive("redis", "one")]
    assert key.administering("limits")[-1] == "drawn"


def test_a_folder_is_read_to_the_byte(tmp_path: Path) -> None:
    assert MasterKey.from_folder(tmp_path) is None
    (tmp_path / "masterKey").write_bytes(OLD)
    assert MasterKey.from_folder(tmp_path) == MasterKey(OLD)
    (tmp_path / "current").write_bytes(NEW + b"\n")
    (tmp_path / "previous").write_bytes(OLD)
    assert MasterKey.from_folder(tmp_path) == MasterKey(NEW + b"\n", OLD)


@pytest.mark.parametrize(
    ("current", "previous", "words"),
    [(b"short", b"", "too short"), (NEW, b"short", "too short"), (b"\xff" * 32, b"", "is no text")],
)
def test_a_key_that_cannot_be_used_is_refused_and_not_told(
    tmp_path: Path, current: bytes, previous: bytes, words: str
) -> None:
    (tmp_path / "current").write_bytes(current)
    (tmp_path / "previous").write_bytes(previous)
    with pytest.raises(ConfigError, match=words) as refused:
        MasterKey.from_folder(tmp_path)
    assert "nnn" not in str(refused.value)


def test_a_login_is_written_hashed_and_the_other_users_stay(tmp_path: Path) -> None:
    (tmp_path / "current").write_bytes(NEW)
    users = tmp_path / "users.acl"
    users.write_text("user default on nopass\n\nuser mcpace:a on\n")
    write_login("limits", tmp_path, users)
    administrator, other = users.read_text().splitlines()
    password = MasterKey(NEW).derive("redis-admin", "limits")
    assert other == "user mcpace:a on"
    assert administrator.startswith("user default on ")
    assert administrator.endswith(f" #{hashlib.sha256(password.encode()).hexdigest()}")
    assert password not in users.read_text()
    assert login([password]) == [f"#{hashlib.sha256(password.encode()).hexdigest()}"]


def test_without_a_key_no_login_is_written(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="holds no `current`"):
        write_login("limits", tmp_path, tmp_path / "users.acl")
    assert not (tmp_path / "users.acl").exists()
