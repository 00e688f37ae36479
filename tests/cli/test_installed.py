"""The command without a checkout: from the compiled wheel, and on a system that it does not run on."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from tests.kit.installed import asked, done, installed

from mcpace_sidecar import __version__

WHEELS = sorted(Path(sys.prefix, "wheels").glob("*.whl"))
"""Those that this very environment was made of: `make test-compiled` builds them."""


@pytest.mark.skipif(not WHEELS, reason="`make test-compiled` builds the compiled wheel, and runs this")
def test_the_compiled_wheel_serves_and_answers_without_the_checkout(tmp_path: Path) -> None:
    (wheel,) = WHEELS
    assert "-none-any" not in wheel.name
    commands = installed(tmp_path, wheel)
    where = "import mcpace_sidecar.call.exchange as it; print(it.__file__)"
    assert done(commands / "python", "-c", where, cwd=tmp_path).strip().endswith(".so")
    assert __version__ in done(commands / "mcpace", "version", cwd=tmp_path)
    assert '"city": "Oslo"' in asked(commands, tmp_path)


ELSEWHERE = """
import sys
class Missing:
    def find_spec(self, name, path=None, target=None):
        if name in {"fcntl", "grp", "pty", "pwd", "resource", "termios", "tty", "uvloop"}:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Missing())
from mcpace_cli.__main__ import main
sys.platform = "win32"
main()
"""
"""As on Windows, whose Python lacks these, and for which no uvloop is to be had."""


@pytest.mark.parametrize("command", ["run", "call", "version", "--help"])
def test_windows_is_told_what_to_use(command: str, tmp_path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", ELSEWHERE, command], cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    assert ended.returncode == 2, ended.stderr
    assert ended.stderr == (
        "mcpace: This runs on Linux and macOS; Windows has no uvloop. Use WSL 2 (`wsl --install`,"
        " and there `pip install`), or a container, as examples/compose does.\n"
    )
