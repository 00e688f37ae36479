"""How somebody else checks what was made: SHA256SUMS, and a statement of what it was made from.

The statement is in-toto's, its predicate SLSA's provenance (https://slsa.dev/spec/v1.0/provenance). It
is not signed, and says so: what proves who made the files is a signature of yours.
"""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from tools.release.programs import run, uv
from tools.release.source import Source

SUMS: Final = "SHA256SUMS"
UNSIGNED: Final = "This statement is not signed: it says how the files were made, and does not prove it."
_TYPE: Final = "https://mcpace.dev/release/v1"
_BUILDER: Final = "https://mcpace.dev/release/checkout"
"""A checkout on somebody's machine."""


def write(source: Source, out: Path, parameters: Mapping[str, Any], began: datetime) -> None:
    """Add both to the files that a release consists of."""
    made = statement(source, digests(out), parameters, began, datetime.now(UTC))
    text = json.dumps(made, indent=2) + "\n"
    (out / f"mcpace-{source.version}.provenance.json").write_text(text, encoding="utf-8")
    sums = "".join(f"{digest}  {name}\n" for name, digest in digests(out).items())
    (out / SUMS).write_text(sums, encoding="utf-8")


def statement(
    source: Source,
    files: Mapping[str, str],
    parameters: Mapping[str, Any],
    began: datetime,
    ended: datetime,
) -> dict[str, Any]:
    """`parameters` are what whoever made the release has chosen; `files`: name -> SHA-256."""
    lock = hashlib.sha256((source.tree / "uv.lock").read_bytes()).hexdigest()
    return {
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"name": name, "digest": {"sha256": digest}} for name, digest in files.items()],
        "predicateType": "https://slsa.dev/provenance/v1",
        "predicate": {
            "buildDefinition": {
                "buildType": _TYPE,
                "externalParameters": dict(parameters),
                "internalParameters": {
                    "python": platform.python_version(),
                    "uv": run(uv(), "--version", cwd=source.tree).strip(),
                    "machine": f"{platform.system()} {platform.machine()}",
                },
                "resolvedDependencies": [
                    {
                        "name": "source",
                        "digest": {"gitCommit": source.commit},
                        "annotations": {"parent": source.parent},
                    },
                    {"name": "uv.lock", "digest": {"sha256": lock}},
                ],
            },
            "runDetails": {
                "builder": {"id": _BUILDER},
                "metadata": {"startedOn": _time(began), "finishedOn": _time(ended)},
                "mcpace_unsigned": UNSIGNED,
            },
        },
    }


def digests(out: Path) -> dict[str, str]:
    """File -> its SHA-256, in the order of their names."""
    found = {}
    for path in sorted(out.iterdir()):
        with path.open("rb") as file:
            found[path.name] = hashlib.file_digest(file, "sha256").hexdigest()
    return found


def _time(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
