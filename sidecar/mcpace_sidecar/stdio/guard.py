"""Ends processes where we are killed and can end nothing: a shell that reads from a pipe of ours."""

from __future__ import annotations

import contextlib
import subprocess
from typing import Final

from mcpace_sidecar.stdio.strays import MARK

_GUARD: Final = """
trap '' INT TERM HUP QUIT
groups=
while read -r what group; do
  case $what in
    +) groups="$groups $group" ;;
    -) rest=; for each in $groups; do [ "$each" = "$group" ] || rest="$rest $each"; done; groups=$rest ;;
    .) exit 0 ;;
  esac
done
strays() {
  [ -n "$1" ] || return 0
  for each in /proc/[0-9]*; do
    tr '\\0' '\\n' <"$each/environ" | grep -q "^$1\\." && echo "${each#/proc/}"
  done
}
for each in $groups; do kill -s TERM -- "-$each"; done
left=$(strays "$1")
for each in $left; do kill -s TERM "$each"; done
[ -z "$groups$left" ] || sleep 3
for each in $groups; do kill -s KILL -- "-$each"; done
for each in $(strays "$1"); do kill -s KILL "$each"; done
"""


class Guard:
    """It, from now on until `dismiss`."""

    def __init__(self, mark: str = "") -> None:
        """`mark`: what their environment says of those that are no group's any more, but for a number."""
        self._shell = subprocess.Popen(  # noqa: S603 - because the shell's words are ours
            ["/bin/sh", "-c", _GUARD, "mcpace-guard", f"{MARK}={mark}" if mark else ""],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        self.pid = self._shell.pid

    def watch(self, group: int) -> None:
        """End this group too."""
        self._tell(b"+ %d\n" % group)

    def forget(self, group: int) -> None:
        """It has ended."""
        self._tell(b"- %d\n" % group)

    def dismiss(self) -> None:
        """There is nothing left to end."""
        if self._shell.returncode is None:
            self._shell.communicate(b".\n")

    @property
    def dismissed(self) -> bool:
        """Whether it has gone."""
        return self._shell.returncode is not None

    def _tell(self, words: bytes) -> None:
        assert self._shell.stdin is not None
        with contextlib.suppress(OSError, ValueError):  # it may have gone before us
            self._shell.stdin.write(words)
            self._shell.stdin.flush()
