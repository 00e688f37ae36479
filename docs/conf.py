"""The site: Sphinx reads the pages beside this file, and `make docs` writes it to `site/`.

The order of the pages stands in index.md. Whatever Sphinx warns of fails the build: a link or an anchor
that leads nowhere, a page that the navigation lacks.
"""

from typing import Any, Final

project = "mcpace"
extensions: Final = ["myst_parser"]
exclude_patterns: Final = ["decisions"]  # those are for who works on the house
myst_heading_anchors = 4  # the depth to which headings have anchors, named as on GitHub

html_theme = "furo"  # it loads nothing from elsewhere
html_title = "mcpace"
html_show_copyright = False
html_show_sphinx = False
html_copy_source = False
html_theme_options: Final[dict[str, Any]] = {"navigation_with_keys": True}
