"""The configuration of now, and whether what it was read from has changed since."""

from __future__ import annotations

import contextlib
import logging
import os
from itertools import chain
from pathlib import Path
from typing import Any

from mcpace_sidecar.call.settings import Settings
from mcpace_sidecar.process.options import Options

log = logging.getLogger(__name__)


class Configuration:
    """Read at once, and again whenever `read` is called. ConfigError."""

    def __init__(self, options: Options) -> None:
        self._options = options
        # Before the first reading, so that no change between it and the first look is missed.
        self._seen = fingerprint(options.watched, options.keys)
        self.settings = self._read(None)

    def has_changed(self) -> bool:
        """Whether the files or the keys are others than at the last look."""
        now = fingerprint(self._options.watched, self._options.keys)
        changed, self._seen = now != self._seen, now
        return changed

    def read(self) -> Settings:
        """Read it again; those before are returned, and stay where what is there now is refused."""
        before, self.settings = self.settings, self._read(self.settings)
        return before

    def _read(self, before: Settings | None) -> Settings:
        config, ignored = self._options.load()
        settings = Settings(config, ignored, self._options.keys, before, self._options.name)
        for path in settings.ignored:
            log.warning("The configuration's field %s is unknown to this version and ignored", path)
        for secret in settings.missing_secrets:
            log.warning("The Secret %s with API keys is not there: its clients are unknown", secret)
        return settings


def fingerprint(paths: tuple[Path, ...], keys: Path | None) -> tuple[Any, ...]:
    """What changes whenever a file does: a kubelet swaps links, an editor writes anew."""
    # What goes while it is looked at is left out: a kubelet removes a folder when it has swapped it.
    held = os.walk(keys) if keys is not None else ()
    entries = sorted(Path(folder, name) for folder, *names in held for name in chain(*names))
    marks: list[Any] = []
    for path in [*paths, *entries]:
        with contextlib.suppress(OSError):
            stat = path.stat()
            marks.append((str(path), stat.st_mtime_ns, stat.st_ino, stat.st_size))
    return tuple(marks)
