"""Every command in the README and the documentation is run by a test; the manifest shown is the one applied."""

import re

import pytest
import yaml
from tests.kit.programs import ROOT

PAGES = [
    *(ROOT / page for page in ("README.md", "CONTRIBUTING.md", "charts/mcpace/README.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
]

RUN_BY = {
    "make run": ("tests/cli/test_laptop.py", '["make", "run"]'),
    "make test": (".ci/run", "make test"),
    "helm install mcpace charts/mcpace -n mcpace-system --create-namespace": (
        "tests/e2e/conftest.py",
        'readme("helm")',
    ),
    "kubectl apply -f examples/weather/manifest.yaml": ("tests/e2e/conftest.py", 'readme("kubectl apply")'),
    "kubectl get mcps": ("tests/e2e/test_calls.py", 'readme("kubectl get")'),
    ".venv/bin/mcpace run my.yaml -- python server.py": ("tests/cli/test_laptop.py", "README_RUN"),
    ".venv/bin/mcpace call http://127.0.0.1:18080/mcp": ("tests/cli/test_laptop.py", "README_CALL"),
    "mcpace call http://127.0.0.1:18080/mcp get-weather city=Oslo": (
        "tests/cli/test_laptop.py",
        "PAGE_LINES",
    ),
    "mcpace run weather.yaml -- python examples/weather/server.py": (
        "tests/cli/test_laptop.py",
        "PAGE_LINES",
    ),
    "mcpace call http://127.0.0.1:18080/mcp": ("tests/cli/test_laptop.py", "PAGE_LINES"),
    "export MCPACE_API_KEY=a-long-key-drawn-at-random": ("tests/cli/test_laptop.py", "PAGE_LINES"),
    "mcpace run -- npx -y @modelcontextprotocol/server-everything": (
        "tests/cli/test_stdio.py",
        "PAGE_LINES",
    ),
    "mcpace run -- mcp-server-time --local-timezone UTC": ("tests/cli/test_stdio.py", "PAGE_LINES"),
    "mcpace run -- python server.py": ("tests/cli/test_stdio.py", "PAGE_LINES"),
    "mcpace run time.yaml": ("tests/cli/test_stdio.py", "PAGE_LINES"),
    "make kind": ("tests/e2e/test_walk.py", "examples/kind.py"),  # all but the creation of the cluster
    "helm test mcpace -n mcpace-system": (
        "tests/e2e/test_uninstall.py",
        'cluster.helm("test", "mcpace", "-n", SYSTEM',
    ),
    "python -m tools.cluster up": ("tools/cluster/__main__.py", "node.up()"),  # each is a part of `e2e`
    "python -m tools.cluster shell": ("tools/cluster/__main__.py", "return run(node, rest)"),
    "python -m tools.cluster down": ("tools/cluster/__main__.py", "node.down()"),
}
"""Command -> the file that runs it, and where in it. A new command in a page needs its test, and its line here."""


def commands():
    for page in PAGES:
        for block in re.findall(r"```sh\n(.*?)```", page.read_text(), re.DOTALL):
            for line in block.splitlines():
                yield page.name, line.partition("  #")[0].strip()


@pytest.mark.parametrize(("page", "command"), list(commands()))
def test_every_command_shown_is_run_by_a_test(page, command):
    assert command in RUN_BY, f"{page} shows a command that no test runs: {command}"
    file, place = RUN_BY[command]
    assert place in (ROOT / file).read_text()


BLOCKS = {
    "gateways.md": "tests/wire/test_gateways.py",
    "operations.md": "tests/apiserver/test_operations.py",
}
"""Page -> the test that runs its blocks of several lines, those marked `bash`."""


def test_every_block_of_commands_is_run_by_a_test():
    assert {page.name for page in PAGES if "```bash" in page.read_text()} == set(BLOCKS)
    for page, file in BLOCKS.items():
        assert f'"docs/{page}"' in (ROOT / file).read_text()


def test_the_readmes_manifest_is_the_examples():
    _, shown = re.findall(r"```yaml\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert yaml.safe_load(shown) == yaml.safe_load((ROOT / "examples/weather/manifest.yaml").read_text())


def test_every_link_between_pages_leads_somewhere():
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


ROOTS = ["", "sidecar/mcpace_sidecar", "operator/mcpace_operator", "tests", "tests/hostile"]


def test_every_file_that_is_named_is_there():
    for page in [*PAGES, ROOT / "SECURITY.md"]:
        for name in re.findall(r"`([\w./-]+/[\w-]+\.(?:py|yaml|lua)|test_\w+\.py)`", page.read_text()):
            assert any((ROOT / root / name).exists() for root in ROOTS), f"{page.name} names {name}"


def test_every_method_that_a_decision_names_is_there():
    code = {
        path: path.read_text() for part in ("sidecar", "operator") for path in (ROOT / part).rglob("*.py")
    }
    found = 0
    for page in (ROOT / "docs/decisions").glob("*.md"):
        for kind, method in re.findall(r"`([A-Z]\w+)\.([a-z_]+)`", page.read_text()):
            found += 1
            words = re.compile(rf"^class {kind}\b.*?^    (async )?def {method}\(", re.MULTILINE | re.DOTALL)
            assert any(words.search(text) for text in code.values()), f"{page.name} names {kind}.{method}"
    assert found


def test_every_decision_is_listed():
    folder = ROOT / "docs/decisions"
    listed = re.findall(r"\]\((.+\.md)\)", (folder / "README.md").read_text())
    assert sorted(listed) == sorted(path.name for path in folder.glob("[0-9]*.md"))


def anchors(text: str) -> set[str]:
    """What a link into a page may name: its headings, as GitHub spells them."""
    titles = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


def test_every_link_into_a_page_leads_to_a_heading_of_it():
    found = 0
    for page in [*PAGES, ROOT / "SECURITY.md"]:
        for target, anchor in re.findall(r"\]\(([^)#:]*)#([^)]+)\)", page.read_text()):
            found += 1
            there = (page.parent / target) if target else page
            assert anchor in anchors(there.read_text()), f"{page.name} links to {target}#{anchor}"
    assert found > 2
