"""Pages of the documentation, walked as a reader walks them.

A block is told by its language, and by its first line where that is a comment:

- `# NAME.yaml`, `# NAME.py`: a file that the reader saves. `# lines of spec`: a part of a manifest.
- `sh` is typed in a shell; `mcpace run` goes on by itself, in a terminal of its own.
- `bash` is typed before a cluster.
- `text` is what the commands before it print, where `…` stands for anything.
- `shell`, and whatever else cannot run here, is marked: `# PROGRAM VERSION, DATE: not run by a test`.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import yaml
from tests.kit.laptop import Run, running, wait_for
from tests.kit.programs import ROOT
from tools.packages.install import modules, node, python_v1, servers
from tools.ports import free_port

WALKED: Final = (
    "docs/start/laptop.md",
    "docs/tutorials/your-server.md",
    "docs/tutorials/slow-tool.md",
    "docs/tutorials/tiers.md",
    "docs/howto/clients.md",
    "docs/howto/servers.md",
)
"""Those whose commands for a laptop are all typed, in order."""
BEFORE_A_CLUSTER: Final = ("docs/tutorials/tiers.md", "docs/tutorials/replicas.md")
"""Those whose commands for a cluster are."""
ELSEWHERE: Final = ("make run",)
"""What a walk leaves out, because a test of its own runs it."""

_BLOCK: Final = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_SAVED: Final = re.compile(r"^(?:#|//) (\S+\.(?:yaml|py|mjs))$")
_MARK: Final = re.compile(r"^(?:#|//) \S.* \d[\d.]*, 20\d\d-\d\d-\d\d: not run by a test")
_RELOADED: Final = "The configuration was reloaded"


@dataclass(frozen=True)
class Block:
    """What stands between two fences."""

    page: str
    language: str
    text: str

    @property
    def first(self) -> str:
        return self.text.partition("\n")[0]

    @property
    def saved(self) -> str | None:
        """The name of the file that it is."""
        found = _SAVED.match(self.first)
        return found[1] if found else None

    @property
    def is_marked(self) -> bool:
        """Whether it says for what it was written, and that nothing here runs it."""
        return _MARK.match(self.first) is not None


def blocks(page: str) -> Iterator[Block]:
    for language, text in _BLOCK.findall((ROOT / page).read_text()):
        yield Block(page, language, text)


def with_port(text: str, port: int) -> str:
    """A manifest whose server listens there."""
    documents = list(yaml.safe_load_all(text))
    for each in documents:
        if each["kind"] == "McpServer":
            each["spec"]["port"] = port
    return yaml.safe_dump_all(documents, sort_keys=False)


def shown(expected: str, printed: str) -> bool:
    """Whether lines stand in what was printed, in their order."""
    at = 0
    for part in (part for line in expected.splitlines() for part in line.split("…")):
        found = printed.find(part, at)
        if found < 0:
            return False
        at = found + len(part)
    return True


class Walk(ExitStack):
    """A reader with an empty folder, in which the checkout's `examples` and `.venv` are seen."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._folder = folder / "reader"
        self._folder.mkdir()
        for name, there in (
            ("examples", ROOT / "examples"), (".venv", Path(sys.prefix)), ("node_modules", modules()),
        ):  # fmt: skip
            (self._folder / name).symlink_to(there)
        self._port = free_port()
        self._exports = ""
        self._run: Run | None = None
        self._serves: str | None = None
        self._printed = ""
        self.typed: list[str] = []

    def take(self, block: Block) -> None:
        """Do what a block says."""
        if block.saved is not None:
            self._save(block.saved, block.text)
        elif block.language == "sh":
            for command in self._commands(block.text):
                self._type(command)
        elif block.language == "text":
            assert shown(block.text, self._printed), (
                f"{block.page} shows\n{block.text}\nwhich was not printed:\n{self._printed}"
            )

    def _commands(self, text: str) -> Iterator[str]:
        """Those that go on each by itself, and what is between them at once."""
        self._printed = ""
        together = ""
        for line in text.splitlines():
            command = line.partition("  #")[0].strip()
            if command in ELSEWHERE:
                continue
            if command.startswith("mcpace run ") and not command.endswith("|| true"):
                yield command
            elif command.startswith("export "):
                self._exports += f"{command}\n"
            else:
                together += f"{line}\n"
        if together:
            yield together

    def _save(self, name: str, text: str) -> None:
        manifest = name.endswith(".yaml")
        changed = self._run is not None and self._serves == name
        before = self._run.said.count(_RELOADED) if self._run else 0
        (self._folder / name).write_text(with_port(text, self._port) if manifest else self._here(text))
        if changed and self._run is not None:
            run = self._run
            wait_for(
                lambda: run.said.count(_RELOADED) > before, f"{name} to be taken; it said:\n{run.said}"
            )

    def _type(self, command: str) -> None:
        self.typed.append(command)
        if command.startswith("mcpace run ") and "\n" not in command:
            self.close()  # the one before it ends by Ctrl-C
            _, _, *rest = shlex.split(self._here(command))
            self._serves = rest[0]
            places = ("--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0")
            self._run = self.enter_context(
                running(self._folder.parent, *places, *rest, cwd=self._folder, PATH=self._path)
            )
            self._run.url()
            return
        done = subprocess.run(
            ["sh", "-ec", self._exports + self._here(command)], cwd=self._folder, env=os.environ | {"PATH": self._path},
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=200,
        )  # fmt: skip
        self._printed += done.stdout
        assert done.returncode == 0, f"{command}\n{done.stdout}"

    def _here(self, text: str) -> str:
        """With the port of this walk's server, and the places of its `mcpace run`, for those that are shown."""
        text = re.sub(r"(?<=--port )\d+", str(self._port), text)
        if self._run is None:
            return text
        (admin,) = set(re.findall(r"http://(\S+)/metrics", self._run.said))
        called = self._run.url().split("/")[2]
        return text.replace("127.0.0.1:18080", called).replace("127.0.0.1:18090", admin)

    @property
    def _path(self) -> str:
        programs = (
            Path(sys.executable).parent, node().parent, modules() / ".bin", python_v1().parent, servers(),
        )  # fmt: skip
        return os.pathsep.join((*map(str, programs), os.environ["PATH"]))
