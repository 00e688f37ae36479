"""The commands as a whole: their help, their page, what shells and kubectl make of them."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import click
import pytest
import yaml
from tests.kit.laptop import MCPACE, mcpace
from tests.kit.programs import ROOT
from tools.cluster.binaries import program
from tools.commands import leaves

from mcpace_cli import show
from mcpace_cli.__main__ import mcpace as group
from mcpace_sidecar import __version__

PAGE = (ROOT / "docs/cli.md").read_text()
SECTIONS = dict(re.findall(r"^#+ mcpace ([^\n]+)\n(.*?)(?=^##|\Z)", PAGE, re.MULTILINE | re.DOTALL))
BIN = Path(sys.executable).parent
COMMANDS = dict(leaves(group.commands.values()))
"""What is typed after `mcpace` -> the command."""


@pytest.mark.parametrize("name", COMMANDS)
def test_the_page_and_the_help_of_a_command_say_the_same(name: str):
    done = mcpace(*name.split(), "--help")
    assert done.returncode == 0, done.stderr
    told = " ".join(done.stdout.split())
    page = SECTIONS[name]
    flags = set(
        re.findall(
            r"(?<![\w`-])(--?[A-Za-z][a-z-]*)",
            done.stdout.partition("Options:")[2].partition("Exit codes")[0],
        )
    )
    shown = set(
        re.findall(r"`(--?[A-Za-z][a-z-]*)`", page.partition("| option |")[2].partition("Exit codes")[0])
    )
    of_command = {
        flag
        for option in COMMANDS[name].params
        if isinstance(option, click.Option)
        for flag in (*option.opts, *option.secondary_opts)
    }
    assert shown == of_command
    assert shown <= flags, "a flag that the help does not name"
    exits = " ".join(page[page.index("Exit codes:") :].split())
    assert told.endswith(exits), told


def test_no_paragraph_of_the_page_stands_as_a_block_of_code():
    assert re.findall(r"^ .*", PAGE, re.MULTILINE) == []


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_says_what_it_is_for_and_every_command_how_it_exits(name: str):
    command = COMMANDS[name]
    assert (command.epilog or "").startswith("Exit codes: 0")
    for option in command.params:
        assert not isinstance(option, click.Option) or option.help, f"{name} {option.opts}"


def test_what_is_read_is_a_table_for_people_and_json_or_yaml_for_programs():
    told = json.loads(mcpace("version", "--output", "json").stdout)
    assert told["version"] == __version__
    assert yaml.safe_load(mcpace("version", "-o", "yaml").stdout) == told
    head, row = mcpace("version").stdout.splitlines()
    assert head.split()[0] == "VERSION"
    assert row.split()[0] == __version__
    assert "TERM" not in row
    wrong = mcpace("version", "-o", "xml")
    assert wrong.returncode == 2
    assert "'json', 'yaml', 'table'" in wrong.stderr


def test_a_table_is_one_line_a_row_where_nobody_looks_and_nothing_in_it_is_obeyed(
    capsys: pytest.CaptureFixture[str],
):
    evil = "\x1b[2Jfine\u202e\x9b31m[bold]x[/bold]\nsecond line" + "y" * 300
    show.table(("NAME", "DESCRIPTION"), [("a", evil), ("b", None)])
    lines = capsys.readouterr().out.splitlines()
    assert lines == ["NAME   DESCRIPTION", "a      \\u001b[2Jfine\\u202e\\u009b31m[bold]x[/bold]", "b"]
    told = show.written({"a": evil}, "json")
    assert json.loads(told) == {"a": evil}
    assert not re.search("[\x1b\x9b\u202e]", told)


def test_bash_completes_commands_and_options():
    bash = shutil.which("bash")
    assert bash is not None
    script = (
        'eval "$(mcpace completion bash)"; complete -p mcpace;'
        " for words in 'mcpace ru' 'mcpace run --li' 'mcpace version -o j'; do"
        " COMP_WORDS=($words); COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); COMPREPLY=();"
        ' _mcpace_completion mcpace; echo "${COMPREPLY[@]}"; done'
    )
    path = f"{BIN}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        [bash, "-c", script], env=os.environ | {"PATH": path}, capture_output=True, text=True, timeout=60
    )
    assert done.stdout.splitlines()[-3:] == ["run", "--listen", "json"], done.stdout + done.stderr


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_ask_for_completions_as_they_do(shell: str):
    script = mcpace("completion", shell)
    assert script.returncode == 0
    assert f"_MCPACE_COMPLETE={shell}_complete" in script.stdout
    asked = {"COMP_WORDS": "mcpace comp", "COMP_CWORD": "1" if shell == "zsh" else "comp"}
    done = subprocess.run(
        [BIN / "mcpace"], env=os.environ | asked | {"_MCPACE_COMPLETE": f"{shell}_complete"},
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert "completion" in done.stdout, done.stderr
    assert "Print what completes" in done.stdout


def test_kubectl_takes_it_for_a_command_of_its_own():
    path = f"{BIN}{os.pathsep}{os.environ['PATH']}"
    kubectl = [str(program("kubectl")), "mcpace"]
    done = subprocess.run(
        [*kubectl, "version", "-o", "json"],
        env=os.environ | {"PATH": path},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert json.loads(done.stdout)["version"] == __version__, done.stderr
    wrong = subprocess.run(
        [*kubectl, "verison"], env=os.environ | {"PATH": path}, capture_output=True, text=True, timeout=60
    )
    assert wrong.returncode == 2
    assert "Usage: kubectl mcpace" in wrong.stderr


def test_what_a_command_is_told_wrong_is_said_with_its_usage():
    done = subprocess.run([*MCPACE, "completion", "tcsh"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert "'bash', 'zsh', 'fish'" in done.stderr
