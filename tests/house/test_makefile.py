"""The Makefile: what its help says, and which tests it runs in which form."""

from __future__ import annotations

import re
import subprocess

from tests.kit.programs import ROOT

MAKEFILE = (ROOT / "Makefile").read_text()
INTERPRETED = {"apiserver", "browser", "chart", "cli", "house"}
"""Folders whose tests are of what is not compiled: the operator, the page, the chart, the command, the repository."""
IN_PART = {"unit/sidecar", "cli/test_installed.py"}
"""What is compiled in folders that hold more."""


def folders() -> set[str]:
    """Those that hold tests."""
    return {path.relative_to(ROOT / "tests").parts[0] for path in (ROOT / "tests").rglob("test_*.py")}


def test_help_names_every_target_and_what_it_does() -> None:
    done = subprocess.run(
        ["make", "--no-print-directory", "help"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    told = dict(line.split(maxsplit=1) for line in done.stdout.splitlines())
    (phony,) = re.findall(r"^\.PHONY: (help .*)$", MAKEFILE, re.MULTILINE)
    targets = set(re.findall(r"^([a-z0-9-]+):(?! [A-Z]+ \?=)", MAKEFILE, re.MULTILINE))
    assert set(told) == set(phony.split()) == targets


def test_every_folder_of_tests_is_run_in_the_compiled_form_or_has_nothing_that_is_compiled() -> None:
    (named,) = re.findall(r"^COMPILED := \$\(addprefix tests/,(.*)\)$", MAKEFILE, re.MULTILINE)
    compiled = set(named.split())
    assert compiled >= IN_PART
    assert (compiled - IN_PART) | {"unit"} == folders() - INTERPRETED - {"e2e"}
    assert all((ROOT / "tests" / each).exists() for each in compiled)


def test_every_folder_of_tests_says_what_it_needs() -> None:
    table = (
        (ROOT / "CONTRIBUTING.md").read_text().partition("| folder of `tests/` |")[2].partition("\n\n")[0]
    )
    first = " ".join(row.split("|")[1] for row in table.splitlines()[1:])
    assert set(re.findall(r"`([a-z0-9]+)/`", first)) == folders()


def test_what_is_tested_compiled_is_installed_from_a_wheel_which_one_test_installs_elsewhere() -> None:
    assert "--wheel --python .venv-compiled/bin/python --out-dir .venv-compiled/wheels" in MAKEFILE
    assert 'Path(sys.prefix, "wheels")' in (ROOT / "tests/cli/test_installed.py").read_text()
