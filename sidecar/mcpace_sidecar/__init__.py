"""The data plane: a proxy beside one MCP server that limits, caches and measures its calls."""

from typing import Final

__version__: Final = "0.1.0"
