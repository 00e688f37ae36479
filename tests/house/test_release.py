"""A release: made of a clone of this repository, refused where it must be, and installed from."""

from __future__ import annotations

import email
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from datetime import UTC, datetime
from pathlib import Path

import pytest
import yaml
from tests.kit.installed import UV, asked, done, installed
from tests.kit.programs import ROOT
from tools.release import images, packages
from tools.release.__main__ import PARTS
from tools.release.programs import ReleaseError, helm
from tools.release.proof import SUMS, UNSIGNED
from tools.release.source import cut
from tools.version import version

NOW = version()
MAJOR, MINOR, PATCH = map(int, NOW.split("."))
NEXT = f"{MAJOR}.{MINOR + 1}.0"
MAINTAINER = {
    "GIT_CONFIG_GLOBAL": os.devnull,  # no signatures, no hooks
    **{f"GIT_{who}_NAME": "A maintainer" for who in ("AUTHOR", "COMMITTER")},
    **{f"GIT_{who}_EMAIL": "maintainer@example.com" for who in ("AUTHOR", "COMMITTER")},
}
QUICK = f"WITHOUT={' '.join(PARTS)}"
CHANGE = "- Something that people notice."
INSTALL = ROOT / "docs/start/install.md"
PAGE_LINES = [
    line.partition("  #")[0].strip()
    for block in re.findall(r"```sh\n(.*?)```", INSTALL.read_text(), re.DOTALL)
    for line in block.splitlines()
]


def git(folder: Path, *arguments: str) -> str:
    return done("git", *arguments, cwd=folder, **MAINTAINER).strip()


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def make(folder: Path, wanted: str, *variables: str) -> subprocess.CompletedProcess[str]:
    """`make release` in a clone, with the dependencies of this checkout."""
    (folder / ".venv").mkdir(exist_ok=True)
    (folder / ".venv/installed").touch()
    path = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))
    return subprocess.run(
        ["make", "--no-print-directory", "release", f"VERSION={wanted}", f"UV={UV}", "RUN=", *variables],
        cwd=folder, env=os.environ | MAINTAINER | {"PATH": path, "UV": UV, "BASE": ""}, stdin=subprocess.DEVNULL,
        capture_output=True, text=True, timeout=200,
    )  # fmt: skip


@pytest.fixture(scope="module")
def origin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What is in this checkout, whether committed or not, as the one commit of another."""
    folder = tmp_path_factory.mktemp("origin") / "mcpace"
    listed = done("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard")
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    changelog = folder / "CHANGELOG.md"
    changelog.write_text(
        changelog.read_text().replace("## Unreleased\n", f"## Unreleased\n\n{CHANGE}\n", 1)
    )
    git(folder, "init", "--quiet", "--initial-branch=main")
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message", "Everything")
    return folder


@pytest.fixture
def clone(origin: Path, tmp_path: Path) -> Path:
    """One to be changed."""
    git(tmp_path, "clone", "--quiet", str(origin), "clone")
    return tmp_path / "clone"


@pytest.fixture(scope="module")
def made(origin: Path) -> subprocess.CompletedProcess[str]:
    """A dry release of it, without what takes minutes."""
    ended = make(origin, NEXT, QUICK)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended


@pytest.fixture(scope="module")
def dist(origin: Path, made: subprocess.CompletedProcess[str]) -> Path:
    """What it consists of."""
    assert made.returncode == 0
    return origin / "dist" / NEXT


@pytest.fixture(scope="module")
def commands(dist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Those of a fresh environment with the wheel in it."""
    return installed(tmp_path_factory.mktemp("installed"), dist / f"mcpace-{NEXT}-py3-none-any.whl")


AFTER = f"write {MAJOR}.{MINOR}.{PATCH + 1}, {MAJOR}.{MINOR + 1}.0 or {MAJOR + 1}.0.0"


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        ("", "VERSION=: write three numbers, as in `make release VERSION=1.2.3`"),
        *(
            (wrong, f"VERSION={wrong}: write three numbers, as in `make release VERSION=1.2.3`")
            for wrong in ("1.2", "v9.0.0", "9.0.0rc1", "9.01.0", "9.0.\N{ARABIC-INDIC DIGIT TWO}")
        ),
        (NOW, f"{NOW} is not greater than {NOW}: {AFTER}"),
        ("0.0.9", f"0.0.9 is not greater than {NOW}: {AFTER}"),
    ],
)
def test_a_version_that_is_none_or_not_greater_is_refused_with_those_that_are(
    origin: Path, wanted: str, words: str
) -> None:
    ended = make(origin, wanted)
    assert ended.returncode != 0
    assert words in ended.stderr.splitlines()


def test_a_version_is_no_command_of_the_shells(clone: Path) -> None:
    wanted = '9.0.0"; touch made; "'
    ended = make(clone, wanted)
    assert ended.returncode != 0
    assert f"VERSION={wanted}: write three numbers" in ended.stderr
    assert not (clone / "made").exists()


def test_a_version_that_is_not_greater_than_a_tagged_one_is_refused(clone: Path) -> None:
    git(clone, "tag", f"v{MAJOR + 3}.0.10")
    git(clone, "tag", f"v{MAJOR + 3}.0.9")
    ended = make(clone, NEXT)
    assert f"{NEXT} is not greater than {MAJOR + 3}.0.10: write {MAJOR + 3}.0.11," in ended.stderr


def test_what_is_not_committed_is_named_and_nothing_is_made_of_it(clone: Path) -> None:
    (clone / "README.md").write_text("changed")
    (clone / "new.py").write_text("")
    ended = make(clone, NEXT)
    assert ended.returncode != 0
    assert "Commit these, or put them aside by `git stash --include-untracked`:" in ended.stderr
    assert " M README.md\n?? new.py\n" in ended.stderr
    assert not (clone / "dist").exists()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("# Changelog\n\n## Unreleased\n", "has nothing under"),
        ("# Changelog\n\n## Unreleased\n\n\n## 1.0.0 (2026-01-01)\n\n- A.\n", "has nothing under"),
        ("# Changelog\n\n- A.\n", 'has no "## Unreleased"'),
    ],
)
def test_a_changelog_that_tells_of_nothing_is_refused(text: str, words: str) -> None:
    with pytest.raises(ReleaseError, match=f"CHANGELOG.md {words}"):
        cut(text, "1.1.0", "2026-02-02")


def test_a_release_of_which_the_changelog_tells_nothing_is_refused_before_anything_is_made(
    clone: Path,
) -> None:
    (clone / "CHANGELOG.md").write_text("# Changelog\n\n## Unreleased\n")
    git(clone, "commit", "--quiet", "--all", "--message", "Tell nothing")
    ended = make(clone, NEXT)
    assert 'CHANGELOG.md has nothing under "Unreleased": write a line for each change' in ended.stderr
    assert not (clone / "dist").exists()


def test_what_was_unreleased_is_the_versions_and_what_was_older_stays_below() -> None:
    text = "# Changelog\n\n## Unreleased\n\n- B.\n\n## 1.0.0 (2026-01-01)\n\n- A.\n"
    assert cut(text, "1.1.0", "2026-02-02") == (
        "# Changelog\n\n## Unreleased\n\n## 1.1.0 (2026-02-02)\n\n- B.\n\n## 1.0.0 (2026-01-01)\n\n- A.\n"
    )


def test_a_dry_release_leaves_the_checkout_as_it_was(
    origin: Path, made: subprocess.CompletedProcess[str]
) -> None:
    assert git(origin, "status", "--porcelain") == ""
    assert git(origin, "tag") == ""
    assert git(origin, "log", "--format=%s") == "Everything"
    assert len(git(origin, "worktree", "list").splitlines()) == 1
    assert names(origin / "dist") == {NEXT}
    assert version(origin) == NOW
    assert "Nothing is signed, tagged or pushed." in made.stdout


def test_what_was_left_out_is_said_and_why(made: subprocess.CompletedProcess[str]) -> None:
    left_out = made.stdout.partition("Left out:\n")[2].splitlines()[:2]
    assert left_out == ["  compiled wheels: by WITHOUT", "  images: by WITHOUT"]


def test_a_release_has_one_version_in_all_that_it_consists_of(dist: Path) -> None:
    assert names(dist) == {
        SUMS,
        f"mcpace-{NEXT}-py3-none-any.whl",
        f"mcpace-{NEXT}.cdx.json",
        f"mcpace-{NEXT}.provenance.json",
        f"mcpace-{NEXT}.tar.gz",
        f"mcpace-{NEXT}.tgz",
    }
    with zipfile.ZipFile(dist / f"mcpace-{NEXT}-py3-none-any.whl") as wheel:
        metadata = email.message_from_bytes(wheel.read(f"mcpace-{NEXT}.dist-info/METADATA"))
        assert metadata["Version"] == NEXT
        assert f'__version__: Final = "{NEXT}"' in wheel.read("mcpace_sidecar/__init__.py").decode()
    with tarfile.open(dist / f"mcpace-{NEXT}.tar.gz") as sdist:
        project = sdist.extractfile(f"mcpace-{NEXT}/pyproject.toml")
        assert project is not None
        assert f'\nversion = "{NEXT}"\n' in project.read().decode()
    chart = yaml.safe_load(done(helm(), "show", "chart", dist / f"mcpace-{NEXT}.tgz"))
    assert (chart["version"], chart["appVersion"]) == (NEXT, NEXT)


def test_the_packed_chart_renders_with_the_images_of_its_version(dist: Path) -> None:
    with_tests = "--api-versions=v1/Pod"  # as a cluster has it, and `helm template` does not
    rendered = done(helm(), "template", with_tests, "mcpace", dist / f"mcpace-{NEXT}.tgz")
    documents = [each for each in yaml.safe_load_all(rendered) if each]
    assert {"Deployment", "StatefulSet", "CustomResourceDefinition"} <= {each["kind"] for each in documents}
    for image in images.IMAGES.values():
        assert f"{image.name}:{NEXT}" in rendered
    assert set(re.findall(r"mcpace/[a-z-]+:(\d[\d.]*)", rendered)) == {NEXT}


def test_the_bill_of_materials_lists_what_the_lock_pins_and_who_needs_what(dist: Path) -> None:
    bill = json.loads((dist / f"mcpace-{NEXT}.cdx.json").read_text())
    assert (bill["bomFormat"], bill["specVersion"]) == ("CycloneDX", "1.6")
    root = bill["metadata"]["component"]
    assert (root["name"], root["version"]) == ("mcpace", NEXT)
    listed = {re.sub(r"[-_.]+", "-", each["name"]).lower(): each["version"] for each in bill["components"]}
    only = ("--no-dev", "--all-extras", "--no-emit-project", "--no-hashes", "--no-annotate")
    pinned = done(UV, "export", "--frozen", "--quiet", *only)
    pins = dict(re.findall(r"^([a-z0-9-]+)(?:\[[^]]*\])?==([^ ;\n]+)", pinned, re.MULTILINE))
    assert {"uvloop", "httptools", "kopf", "mcp"} <= set(listed)
    assert {name: pins.get(name) for name in listed if name != "mcpace"} == {
        name: known for name, known in listed.items() if name != "mcpace"
    }
    (needs,) = [each for each in bill["dependencies"] if each["ref"] == root["bom-ref"]]
    assert len(needs["dependsOn"]) > 10


def test_the_sums_are_those_of_the_files_and_the_statement_says_what_they_were_made_of(
    origin: Path, dist: Path
) -> None:
    checked = done("sha256sum", "--check", SUMS, cwd=dist)
    assert checked.count(": OK\n") == len(names(dist)) - 1
    statement = json.loads((dist / f"mcpace-{NEXT}.provenance.json").read_text())
    assert statement["_type"] == "https://in-toto.io/Statement/v1"
    assert statement["predicateType"] == "https://slsa.dev/provenance/v1"
    sums = dict(reversed(line.split()) for line in (dist / SUMS).read_text().splitlines())
    said = {each["name"]: each["digest"]["sha256"] for each in statement["subject"]}
    assert said == {name: digest for name, digest in sums.items() if "provenance" not in name}
    definition = statement["predicate"]["buildDefinition"]
    assert definition["externalParameters"] == {"version": NEXT, "without": sorted(PARTS)}
    (source, _) = definition["resolvedDependencies"]
    assert source["annotations"]["parent"] == git(origin, "rev-parse", "HEAD")
    details = statement["predicate"]["runDetails"]
    assert details["mcpace_unsigned"] == UNSIGNED
    times = details["metadata"]
    began, ended = (datetime.fromisoformat(times[when]) for when in ("startedOn", "finishedOn"))
    assert began <= ended <= datetime.now(UTC)


def test_a_published_release_is_a_tagged_commit_with_its_version_everywhere(
    clone: Path, tmp_path: Path
) -> None:
    before = git(clone, "rev-parse", "HEAD")
    ended = make(clone, NEXT, QUICK, "PUBLISH=1")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert git(clone, "rev-list", "-1", f"v{NEXT}") == git(clone, "rev-parse", "main")
    assert git(clone, "log", "--format=%s", f"{before}..main") == f"Release {NEXT}"
    assert git(clone, "status", "--porcelain") == ""
    assert version(clone) == NEXT
    top, below = (clone / "CHANGELOG.md").read_text().split(f"## {NEXT} (")
    assert top == "# Changelog\n\n## Unreleased\n\n"
    assert re.match(r"\d{4}-\d\d-\d\d\)\n\n- ", below)
    assert CHANGE in below
    parts = os.pathsep.join(str(clone / part) for part in ("sidecar", "operator", "cli", "."))
    done(sys.executable, "-m", "tools.generate", "--check", cwd=clone, PYTHONPATH=parts)
    said = ended.stdout.partition("these push:\n")[2].split("\n")
    assert said == [
        f"  git push origin main v{NEXT}",
        f"  uv publish dist/{NEXT}/mcpace-{NEXT}.tar.gz dist/{NEXT}/mcpace-{NEXT}-py3-none-any.whl",
        f"  helm push dist/{NEXT}/mcpace-{NEXT}.tgz oci://REGISTRY/charts",
        "",
    ]
    assert git(clone, "ls-remote", "--tags", "origin") == ""
    epoch = git(clone, "log", "-1", "--format=%ct")
    done(UV, "build", "--quiet", "--out-dir", tmp_path, cwd=clone, SOURCE_DATE_EPOCH=epoch)
    for name in (f"mcpace-{NEXT}-py3-none-any.whl", f"mcpace-{NEXT}.tar.gz"):
        assert (tmp_path / name).read_bytes() == (clone / "dist" / NEXT / name).read_bytes()
    assert (
        f"{NEXT} is released: v{NEXT} is tagged. Write {MAJOR}.{MINOR + 1}.1," in make(clone, NEXT).stderr
    )


def test_nothing_is_published_of_a_commit_that_is_on_no_branch(clone: Path) -> None:
    git(clone, "switch", "--quiet", "--detach")
    ended = make(clone, NEXT, QUICK, "PUBLISH=1")
    assert "No branch is checked out that could have the release: `git switch main`" in ended.stderr
    assert not (clone / "dist").exists()


def test_the_wheel_brings_a_command_that_serves_and_asks_without_the_checkout(
    commands: Path, tmp_path: Path
) -> None:
    told = json.loads(done(commands / "mcpace", "version", "--output", "json", cwd=tmp_path))
    assert told["version"] == NEXT
    assert NEXT in done(commands / "kubectl-mcpace", "version", cwd=tmp_path)
    where = done(commands / "python", "-c", "import mcpace_cli; print(mcpace_cli.__file__)", cwd=tmp_path)
    assert where.startswith(str(commands.parent))
    assert '"city": "Oslo"' in asked(commands, tmp_path)


def test_every_way_to_install_on_the_page_brings_the_command(
    origin: Path, dist: Path, tmp_path: Path
) -> None:
    """In an environment that has what the command needs, so that only the command is installed."""
    commands = installed(tmp_path, dist / f"mcpace-{NEXT}-py3-none-any.whl")
    pinned = {"UV_CONSTRAINT": str(tmp_path / "pins.txt"), "VIRTUAL_ENV": str(commands.parent)}
    path = os.pathsep.join((str(commands), str(Path(UV).parent), os.environ["PATH"]))
    for line in PAGE_LINES:
        printed = done("sh", "-c", line, cwd=origin, PATH=path, **pinned)
        if not line.startswith("pip "):
            assert NOW in printed, line
            continue
        told = json.loads(done(commands / "mcpace", "version", "--output", "json", cwd=tmp_path))
        assert told["version"] == (NEXT if "dist/" in line else NOW), line


@pytest.mark.parametrize(
    ("machine", "emulators", "built"),
    [
        ("x86_64", [], ["linux/amd64"]),
        ("x86_64", ["register", "status", "qemu-arm"], ["linux/amd64"]),
        ("x86_64", ["qemu-aarch64"], ["linux/amd64", "linux/arm64"]),
        ("aarch64", [], ["linux/arm64"]),
        ("arm64", ["qemu-x86_64"], ["linux/amd64", "linux/arm64"]),
        ("riscv64", [], []),
    ],
)
def test_images_are_built_for_what_runs_here_or_is_emulated_and_others_are_named(
    machine: str, emulators: list[str], built: list[str]
) -> None:
    platforms, left_out = images.judge(machine, emulators)
    assert platforms == built
    assert [each.partition(":")[0] for each in left_out] == [
        f"images of {name}" for name in images.PLATFORMS if name not in built
    ]


def test_an_image_that_the_charts_values_do_not_name_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ReleaseError, match=re.escape("no sidecars.image.digest")):
        packages.chart(ROOT, tmp_path, {"sidecars": f"sha256:{'0' * 64}"})
