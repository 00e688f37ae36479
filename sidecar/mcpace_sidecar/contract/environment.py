"""Secrets reach a process by its environment or by files, never by its command line."""

from __future__ import annotations

import os
from pathlib import Path

from mcpace_sidecar.errors import ConfigError


def secret(variable: str) -> str | None:
    """A secret from the environment, or from the file that `VARIABLE_FILE` names; ConfigError."""
    value = os.environ.get(variable)
    if value:
        return value
    path = os.environ.get(variable + "_FILE")
    if not path:
        return None
    try:
        return Path(path).read_text(encoding="utf-8").strip() or None
    except OSError as error:
        raise ConfigError(f"{variable}_FILE: {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{variable}_FILE: {path} is no text in UTF-8") from error
