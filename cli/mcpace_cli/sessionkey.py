"""The key by which `mcpace run` seals session ids: kept, so that sessions outlive its restart."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
from pathlib import Path

from mcpace_sidecar.errors import ConfigError
from mcpace_sidecar.sessions.key import KEY_BYTES, read

log = logging.getLogger(__name__)


def of(manifest: Path, name: str) -> tuple[bytes, ...]:
    """The key of one server of a manifest, drawn the first time; none where it cannot be kept.

    It stands in a file of its own in the user's state folder (XDG Base Directory Specification), for its
    owner alone. `name`: the server's namespace and name.
    """
    path = _place(manifest, name)
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            _write(path)
        return (read(path.read_text(encoding="ascii"), str(path)),)
    except (OSError, UnicodeDecodeError) as error:
        log.warning("Sessions end with this process: the key of their ids cannot be kept (%s)", error)
        return ()
    except ConfigError as error:
        raise ConfigError(f"{error}; or remove it, and sessions begin anew") from error


def forget(manifest: Path, name: str) -> None:
    """Keep it no more: the manifest was written for the occasion."""
    with contextlib.suppress(OSError):
        _place(manifest, name).unlink()


def _place(manifest: Path, name: str) -> Path:
    folder = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local/state") / "mcpace"
    place = hashlib.sha256(f"{manifest.resolve()} {name}".encode()).hexdigest()[:16]
    return folder / f"{name.replace('/', '-')}-{place}.key"


def _write(path: Path) -> None:
    """Write a new key: whole, or not at all, whoever else does at the same time."""
    draft = path.with_suffix(f".{os.getpid()}")
    draft.touch(0o600)
    try:
        draft.write_text(f"{os.urandom(KEY_BYTES).hex()}\n", encoding="ascii")
        os.link(draft, path)
    finally:
        draft.unlink()
