"""docs/operations.md: what it says to type works, against a real API server."""

from __future__ import annotations

import base64
import os
import re
import subprocess
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

import pytest
from tests.kit.programs import ROOT
from tests.kit.waiting import until
from tools.cluster.binaries import program
from tools.cluster.kubectl import Kubectl

COMMANDS = re.findall(r"```bash\n(.*?)```", (ROOT / "docs/operations.md").read_text(), re.DOTALL)
MOVE, CHANGE, FORGET = COMMANDS
SYSTEM = "mcpace-system"
OLD = "o" * 40


@pytest.fixture
def type_in(api: Kubectl) -> Callable[[str], None]:
    """Types what the page says into a shell."""
    path = f"{program('kubectl').parent}:{os.environ['PATH']}"

    def run(command: str) -> None:
        done = subprocess.run(
            ["bash", "-ec", command],
            env=os.environ | {"PATH": path, "KUBECONFIG": str(api.kubeconfig)},
            capture_output=True, text=True,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr

    return run


@pytest.fixture
def release(api: Kubectl) -> Iterator[None]:
    """What of a release the commands name."""
    if api.get(f"namespace/{SYSTEM}") is None:
        api.ok("create", "namespace", SYSTEM)
    api.ok("create", "secret", "generic", "mcpace", "-n", SYSTEM, f"--from-literal=current={OLD}")
    api.ok("create", "deployment", "mcpace", "-n", SYSTEM, "--image=mcpace/operator:0.1.0")
    yield
    api.ok("delete", "deployment/mcpace", "secret/mcpace", "-n", SYSTEM)


def restarted(api: Kubectl) -> str:
    template = api.get("deployment/mcpace", SYSTEM)["spec"]["template"]
    return str((template["metadata"].get("annotations") or {}).get("kubectl.kubernetes.io/restartedAt", ""))


async def test_the_master_key_is_changed_and_the_old_one_forgotten(
    api: Kubectl, release: None, type_in: Callable[[str], None]
) -> None:
    def keys() -> dict[str, str]:
        data = api.get("secret/mcpace", SYSTEM)["data"]
        return {name: base64.b64decode(value).decode() for name, value in data.items()}

    type_in(CHANGE)
    changed = keys()
    assert changed["previous"] == OLD
    assert re.fullmatch("[0-9a-f]{64}", changed["current"])
    at = datetime.fromisoformat(restarted(api))
    # No person is so quick, and kubectl restarts nothing twice within a second.
    await until(lambda: datetime.now(UTC) - at > timedelta(seconds=2), "the next second")
    type_in(FORGET)
    assert keys() == {"current": changed["current"]}


def test_servers_are_moved_to_another_release_whoever_had_them(
    api: Kubectl, type_in: Callable[[str], None]
) -> None:
    try:
        for name in ("weather", "tides"):
            api.apply(name, image="weather:1")
        api.ok("annotate", "mcpserver", "tides", "mcpace.dev/instance=other/mcpace")
        type_in(MOVE)
        for name in ("weather", "tides"):
            annotations = api.get(f"mcpserver/{name}")["metadata"]["annotations"]
            assert annotations["mcpace.dev/instance"] == "mcpace-system/mcpace"
    finally:
        api.ok("delete", "mcpservers", "--all", "-A")
