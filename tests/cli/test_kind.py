"""The walk on a local cluster, as far as it goes without Docker: what is checked, made, left, and said of it."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from tests.kit.programs import ROOT
from tools.cluster.binaries import program

TOOLS = ("docker", "kind", "kubectl", "helm")


@pytest.fixture
def tools(tmp_path: Path) -> Path:
    """A folder of programs that note how they were called, and do as a file beside them says."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in TOOLS:
        path = folder / name
        path.write_text(
            f'#!/bin/sh\necho "{name} $* [$KUBECONFIG]" >> {tmp_path}/calls\n'
            f'for said in {tmp_path}/{name}-*; do\n  [ -e "$said" ] || continue\n  word=${{said##*/{name}-}}\n'
            f'  case " $* " in *" $word "*) . "$said";; esac\ndone\n'
        )
        path.chmod(0o755)
    says(folder, "docker", "inspect", "exit 1")
    return folder


def says(tools: Path, name: str, word: str, script: str) -> None:
    """What a tool does when it is called with this word."""
    (tools.parent / f"{name}-{word}").write_text(script + "\n")


def fails(tools: Path, name: str, word: str, words: str) -> None:
    says(tools, name, word, f"echo '{words}' >&2; exit 1")


def calls(tools: Path) -> list[str]:
    return (tools.parent / "calls").read_text().splitlines()


def walk(tools: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(ROOT / "examples/kind.py")],
        env=os.environ | {"PATH": f"{tools}:/usr/bin:/bin"} | environment,
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip


def said(done: subprocess.CompletedProcess[str]) -> str:
    return " ".join(done.stdout.split())


def created(tools: Path) -> bool:
    return any(call.startswith("kind create") for call in calls(tools))


def deleted(tools: Path) -> bool:
    return any(call.startswith("kind delete") for call in calls(tools))


def test_all_that_is_missing_is_said_before_anything_is_made(tmp_path: Path):
    done = subprocess.run(
        [sys.executable, str(ROOT / "examples/kind.py")],
        env=os.environ | {"PATH": str(tmp_path)}, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 1
    for name in TOOLS:
        assert f"{name} is not installed. Install" in done.stdout


@pytest.mark.parametrize(
    ("tool", "word", "words", "hint"),
    [
        ("docker", "version", "Cannot connect to the Docker daemon at unix:///x", "Start Docker."),
        ("docker", "build", "failed to solve: python: failed to resolve source", "name another image with Python 3.11 or later in BASE"),
        ("docker", "pull", "manifest unknown: redis", "docker tag` it redis:"),
        ("kind", "create", "Bind for 0.0.0.0:6443 failed: port is already allocated", "change kind-config.yaml"),
        ("docker", "build", "process [/bin/sh -c pip] [bold]failed[/bold] :warning: manifest unknown", "in BASE"),
        ("kind", "create", "[/] [/red] failed to pull image :x:", "in KIND_NODE_IMAGE"),
        ("kind", "create", "failed to pull image kindest/node:v9", "name another one in KIND_NODE_IMAGE"),
    ],
)  # fmt: skip
def test_what_a_tool_says_becomes_what_to_do_and_no_cluster_is_left(
    tools: Path, tool: str, word: str, words: str, hint: str
):
    fails(tools, tool, word, words)
    done = walk(tools)
    assert done.returncode == 1
    assert words in said(done)
    assert hint in said(done)
    assert created(tools) == (tool == "kind")
    assert deleted(tools) == (tool == "kind")


def test_a_cluster_of_that_name_is_neither_used_nor_deleted(tools: Path):
    says(tools, "kind", "clusters", "echo other; echo mcpace")
    done = walk(tools)
    assert done.returncode == 1
    assert "it may be yours: `kind delete cluster --name mcpace`" in said(done)
    assert not created(tools)
    assert not deleted(tools)


def test_everything_follows_a_kubeconfig_of_its_own_and_the_base_that_is_given(tools: Path):
    fails(tools, "helm", "upgrade", "stop here")
    walk(tools, KUBECONFIG="/somebody/elses", BASE="my/python:3.12", KIND_NODE_IMAGE="my/node:1")
    own = str(ROOT / ".kind/kubeconfig")
    made = calls(tools)
    (create,) = [call for call in made if call.startswith("kind create")]
    assert f"--kubeconfig {own}" in create
    assert "--image my/node:1" in create
    assert all(call.endswith(f"[{own}]") for call in made if call.startswith(("helm", "kubectl")))
    built = [call for call in made if call.startswith("docker build")]
    assert len(built) == 3
    assert all("--build-arg BASE=my/python:3.12" in call for call in built)
    (loaded,) = [call for call in made if call.startswith("kind load")]
    image = yaml.safe_load((ROOT / "charts/mcpace/values.yaml").read_text())["redis"]["image"]
    assert f"{image['repository']}:{image['tag']}" in loaded
    assert made.index(built[-1]) < made.index(create), "a build that fails leaves no cluster"


def test_what_it_advises_to_look_at_is_left(tools: Path):
    fails(tools, "helm", "upgrade", "Error: context deadline exceeded")
    done = walk(tools)
    assert done.returncode == 1
    assert "`kubectl get pods -A`" in said(done)
    assert f"export KUBECONFIG={ROOT}/.kind/kubeconfig" in said(done)
    assert "Afterwards `kind delete cluster --name mcpace`" in said(done)
    assert not deleted(tools)


@pytest.mark.parametrize(("tool", "word"), [("kind", "create"), ("helm", "upgrade")])
def test_an_interrupt_takes_the_cluster_away(tools: Path, tool: str, word: str):
    says(tools, tool, word, f"touch {tools.parent}/reached; sleep 60")
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "examples/kind.py")],
        env=os.environ | {"PATH": f"{tools}:/usr/bin:/bin"}, stdout=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    deadline = time.monotonic() + 30
    while not (tools.parent / "reached").exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    assert process.wait(30) == 130
    assert deleted(tools)


def test_the_real_kind_takes_our_configuration_as_far_as_docker(tmp_path: Path):
    (tmp_path / "kind").symlink_to(program("kind"))
    docker = tmp_path / "docker"
    docker.write_text("#!/bin/sh\necho 'Cannot connect to the Docker daemon' >&2\nexit 1\n")
    docker.chmod(0o755)
    done = subprocess.run(
        [program("kind"), "create", "cluster", "--config", str(ROOT / "kind-config.yaml"), f"--kubeconfig={tmp_path}/k"],
        env={"PATH": str(tmp_path), "HOME": str(tmp_path), "KIND_EXPERIMENTAL_PROVIDER": "docker"},
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode != 0
    assert "docker" in done.stderr.lower()
    assert "unable to decode config" not in done.stderr
    assert yaml.safe_load((ROOT / "kind-config.yaml").read_text())["name"] == "mcpace"
