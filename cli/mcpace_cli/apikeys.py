"""The API keys of a manifest's file, laid out for the sidecar as a kubelet would lay out its Secrets."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from mcpace_cli.manifest import Manifest


def missing(manifest: Manifest) -> list[str]:
    """The Secrets that it names and does not hold: their clients are unknown."""
    names = dict.fromkeys(keys.secret_ref.name for keys in manifest.spec.clients.api_keys)
    return [name for name in names if name not in manifest.secrets]


@contextlib.contextmanager
def folder(manifest: Manifest, given: Path | None) -> Iterator[Path]:
    """The folder of API keys that was given; else one of those in the manifest's file, gone at the end."""
    if given is not None:
        yield given
        return
    with tempfile.TemporaryDirectory(prefix="mcpace-", dir=os.environ.get("XDG_RUNTIME_DIR")) as made:
        write(manifest, Path(made))
        yield Path(made)


def write(manifest: Manifest, where: Path) -> None:
    """Write the keys: a folder a Secret, a file a client. Nobody else may read them."""
    for name in {keys.secret_ref.name for keys in manifest.spec.clients.api_keys}:
        entries = manifest.secrets.get(name, {})
        (where / name).mkdir(exist_ok=True)
        for path in (where / name).iterdir():
            if path.name not in entries:
                path.unlink()
        for client, key in entries.items():
            path = where / name / client
            if not path.exists() or path.read_bytes() != key:
                path.write_bytes(key)
