"""Files that are generated from the code: `python -m tools.generate` writes them, `--check` compares.

The CRD comes from the models, here and in the chart, and so does the schema for editors; the reference from
what it describes, the page of commands from the commands; the schema of the chart's values from a model of
them, its README from what stands above them, its dashboards and rules from tables; and the version is
written wherever it stands beside pyproject.toml.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Final

import yaml
from tools import chart, commands, reference, schema, values, version
from tools.monitoring import alerts, dashboards

from mcpace_operator import crd

ROOT: Final = Path(__file__).parents[1]
COMMAND: Final = "python -m tools.generate"


def definition() -> str:
    """The CustomResourceDefinition, as YAML."""
    # Through JSON, so that no YAML anchors appear where parts are shared.
    document = json.loads(json.dumps(crd.definition()))
    head = f"# Generated from the models by `{COMMAND}`; do not edit.\n"
    return head + yaml.safe_dump(document, sort_keys=False, width=100)


GENERATED: Final[Mapping[str, Callable[[], str]]] = {
    "crds/mcpservers.yaml": definition,
    "charts/mcpace/files/mcpservers.yaml": definition,
    "charts/mcpace/values.schema.json": values.schema,
    "charts/mcpace/README.md": chart.readme,
    "charts/mcpace/files/rules.yaml": partial(alerts.text, COMMAND),
    **{
        f"charts/mcpace/files/dashboards/{name}.json": partial(dashboards.text, name)
        for name in dashboards.BUILT
    },
    "docs/reference.md": reference.text,
    "docs/cli.md": commands.text,
    "docs/mcpserver.schema.json": schema.text,
    **{name: partial(version.written, name) for name in version.places()},
}


def stale(root: Path = ROOT) -> list[str]:
    """Which files are not as they would be written."""
    return [
        name
        for name, text in GENERATED.items()
        if not (root / name).exists() or (root / name).read_text(encoding="utf-8") != text()
    ]


def write(root: Path = ROOT) -> None:
    """Write all of them, or none where one cannot be made."""
    for name, text in {name: text() for name, text in GENERATED.items()}.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text, encoding="utf-8")


def main() -> int:
    """Write, or check."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="fail where a written file is not current")
    check, found = parser.parse_args().check, []
    try:
        if check:
            found = stale()
        else:
            write()
    except ValueError as error:  # it says what to write, and where
        print(error, file=sys.stderr)
        return 1
    if found:
        print(f"Not current: {', '.join(found)}. Run {COMMAND} and commit.", file=sys.stderr)
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main())
