"""What every sidecar holds in memory, whatever its server needs."""

import subprocess
import sys

HEAVY = ("cryptography", "jwt", "opentelemetry", "redis")
"""Libraries of which each takes megabytes, and that most sidecars do without."""


def test_a_sidecar_imports_no_library_that_it_may_do_without() -> None:
    said = subprocess.run(
        [sys.executable, "-c", "import sys, mcpace_sidecar.main; print(*sys.modules)"],
        capture_output=True, text=True, check=True,
    ).stdout.split()  # fmt: skip
    assert not {*HEAVY} & {*said}, "import it where it is needed"
