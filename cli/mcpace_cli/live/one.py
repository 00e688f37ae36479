"""The process of one server, which `lead` starts: `python -m mcpace_cli.live.one ASKED`."""

from __future__ import annotations

import os
import signal
import sys

from mcpace_cli import asked, mending


def main() -> None:
    """Serve, as `mcpace run` does where nobody looks."""
    # Until it heeds signals itself: what was begun is put away.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    # Its server writes to a pipe, and people read along.
    os.environ.setdefault("PYTHONUNBUFFERED", "1")
    with mending.told():
        from mcpace_cli.laptop import run  # noqa: PLC0415 - because it is slow to import

        run(asked.read(sys.argv[1]))


if __name__ == "__main__":
    main()
