"""A plain text of a manifest is on a laptop what it is in a cluster: kubectl itself says what that is."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

from tools.cluster.binaries import program

from mcpace_sidecar.contract.config import read_documents

TEXTS = (
    "1:30", "22:22", "1:30:00", "-1:30", "1:60", "1e3", "1E3", "1e+3", "1.5e3", "12e03", "0.1e1", ".5", "5.", "+.5",
    "1.0", "1.25", "+5", "-5", "-0", "0x1F", "0x1_F", "+0x1F", "0o17", "017", "0777", "08", "0b11", "-0b1", "0x", "0o",
    "1_000", "1_0.5", "1__0", "_1", "1e400", "y", "n", "Y", "N", "yes", "no", "on", "off", "On", "true", "TRUE", "True",
    "tRue", "~", "null", "Null", "NULL", "nUll", "", "2026-11-28", "2026-11-28T00:00:00Z", "=", "64Mi", "100m", "1.2.3",
)  # fmt: skip
HEAD = "apiVersion: mcpace.dev/v1alpha1\nkind: McpServer\nmetadata: {name: a}\nspec:\n"


def test_plain_texts_are_read_as_kubectl_reads_them(tmp_path: Path):
    document = HEAD + "".join(f"  x{number}: {text}\n" for number, text in enumerate(TEXTS))
    command = [str(program("kubectl")), "label", "--local", "-f", "-", "a=b", "-o", "json"]
    done = subprocess.run(command, input=document, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    theirs = json.loads(done.stdout)["spec"]
    path = tmp_path / "manifest.yaml"
    path.write_text(document)
    (read,) = read_documents(path)
    wrong = [
        (text, theirs.get(f"x{number}"), read["spec"][f"x{number}"])
        for number, text in enumerate(TEXTS)
        if repr(theirs.get(f"x{number}")) != repr(read["spec"][f"x{number}"])
    ]
    assert not wrong, "text, kubectl, here"
