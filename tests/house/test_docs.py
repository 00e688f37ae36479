"""Every command in the README and the documentation is run by a test; the manifest shown is the one applied."""

import json
import re

import jsonschema
import pytest
import yaml
from tests.kit.pages import BEFORE_A_CLUSTER, WALKED, Block, blocks
from tests.kit.programs import ROOT
from tests.kit.schemas import refusals

from mcpace_operator.resource.models import parse_spec
from mcpace_sidecar.errors import ConfigError

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
    "mcpace bench examples/slow/manifest.yaml --levers --report slow.html -- python examples/slow/server.py": (
        "tests/cli/test_bench.py",
        "PAGE_LINES",
    ),
    "mcpace bench http://127.0.0.1:8000/mcp --tool get-weather": ("tests/cli/test_bench.py", "PAGE_LINES"),
    "mcpace bench before.yaml after.yaml --tool get-weather -- python server.py": (
        "tests/cli/test_bench.py",
        "PAGE_LINES",
    ),
    "mcpace bench --tool get_current_time --arguments @zones.json -- mcp-server-time --local-timezone UTC": (
        "tests/cli/test_bench.py",
        "PAGE_LINES",
    ),
    "mcpace bench http://127.0.0.1:8000/mcp --tool get-weather --save monday.json": (
        "tests/cli/test_bench.py",
        "PAGE_LINES",
    ),
    "mcpace bench http://127.0.0.1:8000/mcp --tool get-weather --compare monday.json --fail-if 'p95>400ms'": (
        "tests/cli/test_bench.py",
        "PAGE_LINES",
    ),
    "pip install .": ("tests/house/test_release.py", "for line in PAGE_LINES"),
    "uvx --from . mcpace version": ("tests/house/test_release.py", "for line in PAGE_LINES"),
    "pip install dist/*/mcpace-*-py3-none-any.whl": (
        "tests/house/test_release.py",
        "for line in PAGE_LINES",
    ),
    "pip install dist/*/mcpace-*.tar.gz": ("tests/house/test_release.py", "for line in PAGE_LINES"),
    "make release VERSION=X.Y.Z": (
        "tests/house/test_release.py",
        '["make", "--no-print-directory", "release"',
    ),
    "make release VERSION=X.Y.Z PUBLISH=1": ("tests/house/test_release.py", '"PUBLISH=1"'),
    "python -m tools.cluster up": ("tools/cluster/__main__.py", "node.up()"),  # each is a part of `e2e`
    "python -m tools.cluster shell": ("tools/cluster/__main__.py", "return run(node, rest)"),
    "python -m tools.cluster down": ("tools/cluster/__main__.py", "node.down()"),
}
"""Command -> the file that runs it, and where in it. A command in a page that is not walked needs its line here."""


def named(page):
    return str(page.relative_to(ROOT))


def commands():
    for page in PAGES:
        if named(page) in WALKED:
            continue
        for block in re.findall(r"```sh\n(.*?)```", page.read_text(), re.DOTALL):
            for line in block.splitlines():
                yield page.name, line.partition("  #")[0].strip()


@pytest.mark.parametrize(("page", "command"), list(commands()))
def test_every_command_shown_is_run_by_a_test(page, command):
    assert command in RUN_BY, f"{page} shows a command that no test runs: {command}"
    file, place = RUN_BY[command]
    assert place in (ROOT / file).read_text()


BLOCKS = {
    "docs/gateways.md": "tests/wire/test_gateways.py",
    "docs/operations.md": "tests/apiserver/test_operations.py",
    **dict.fromkeys(BEFORE_A_CLUSTER, "tests/apiserver/test_pages.py"),
}
"""Page -> the test that runs its blocks of several lines, those marked `bash`."""


def test_every_block_of_commands_is_run_by_a_test():
    assert {named(page) for page in PAGES if "```bash" in page.read_text()} == set(BLOCKS)
    for page, file in BLOCKS.items():
        assert f'"{page}"' in (ROOT / file).read_text() or page in BEFORE_A_CLUSTER


ALL = [block for page in PAGES for block in blocks(named(page))]
TYPED = {"sh", "bash"}
SHOWN = {"text", "yaml", "python", "javascript", "dockerfile", "nginx"}


def test_what_no_test_can_run_says_for_what_it_was_written_and_when():
    """Files of programs that are not to be had here too; Dockerfiles of the page are shown, and built by none."""
    for block in ALL:
        if block.language not in TYPED | SHOWN:
            assert block.is_marked, f"{block.page}: say so above\n{block.text}"
        assert not (block.is_marked and block.language in TYPED), f"{block.page}: {block.first}"


OTHERS = (
    "argoproj.io/", "cilium.io/", "gateway.networking.k8s.io/", "networking.istio.io/", "route.openshift.io/",
)  # fmt: skip
FLUX = ".toolkit.fluxcd.io/"
"""Groups whose schemas are not to be had here; a block of theirs is marked with the version it was written for."""
MANIFESTS = [block for block in ALL if block.language == "yaml"]


@pytest.mark.parametrize(
    "block", MANIFESTS, ids=[f"{b.page}: {b.text.count(chr(10))} lines" for b in MANIFESTS]
)
def test_every_manifest_shown_is_such_as_is_taken(block: Block):
    documents = list(yaml.safe_load_all(block.text))
    if block.saved == "wrong.yaml":
        with pytest.raises(ConfigError):
            parse_spec({"image": "x"} | documents[0]["spec"])
    elif block.saved == "values.yaml":
        defaults = yaml.safe_load((ROOT / "charts/mcpace/values.yaml").read_text())
        schema = json.loads((ROOT / "charts/mcpace/values.schema.json").read_text())
        jsonschema.validate(merged(defaults, documents[0]), schema)
    else:
        for document in documents:
            _check(block, document)


def _check(block: Block, document):
    kind, group = document.get("kind"), document.get("apiVersion", "")
    if kind is None:
        assert block.is_marked or parse_spec({"image": "x"} | document)
    elif kind == "McpServer":
        parse_spec({"image": "x"} | document["spec"])
    elif group.startswith(OTHERS) or FLUX in group:
        assert block.is_marked or block.page == "docs/gateways.md", f"{block.page}: {kind}"
    else:
        assert not refusals(document)


def merged(below, above):
    if not isinstance(below, dict) or not isinstance(above, dict):
        return above
    return below | {key: merged(below.get(key), value) for key, value in above.items()}


def test_a_page_that_shows_a_file_of_the_repository_shows_it_as_it_is():
    found = 0
    for block in ALL:
        if block.saved is not None and block.saved.startswith("examples/"):
            found += 1
            assert yaml.safe_load(block.text) == yaml.safe_load((ROOT / block.saved).read_text())
    assert found


def test_every_example_is_on_the_page_of_examples():
    page = (ROOT / "docs/howto/examples.md").read_text()
    assert {path.name for path in (ROOT / "examples").glob("*.yaml")} - {"tour.yaml"} == set(
        re.findall(r"\[([\w-]+\.yaml)\]\(\.\./\.\./examples/\1\)", page)
    )


def test_the_readmes_manifest_is_the_examples():
    (shown,) = re.findall(r"```yaml\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
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


def test_the_picture_of_numbers_shows_those_of_the_table_beside_it():
    page, picture = ((ROOT / f"docs/performance.{kind}").read_text() for kind in ("md", "svg"))
    table = page.partition("<!-- proxy -->")[2].partition("<!-- end of proxy -->")[0]
    rows = re.findall(r"^\| (\w[^|]*) \| ([\d,]+) \| ([\d.]+) \|$", table, re.MULTILINE)
    assert len(rows) > 10
    for words, rate, ratio in rows:
        shown = f"{int(rate.replace(',', '')) / 1000:.0f}k/s ({ratio})"
        assert re.search(
            rf">{re.escape(words)}</text><rect [^>]*/><text [^>]*>{re.escape(shown)}<", picture
        ), words
