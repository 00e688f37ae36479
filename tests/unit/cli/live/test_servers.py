"""Which servers are run, and how they are told apart."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from mcpace_cli.asked import Asked, read, written
from mcpace_cli.live.servers import servers
from mcpace_sidecar.errors import ConfigError


def manifest(folder: Path, name: str, namespace: str = "default", **spec: object) -> Path:
    path = folder / f"{namespace}-{name}.yaml"
    document = {
        "apiVersion": "mcpace.dev/v1alpha1",
        "kind": "McpServer",
        "metadata": {"name": name, "namespace": namespace},
        "spec": spec,
    }
    path.write_text(yaml.safe_dump(document))
    return path


def ports(*manifests: Path) -> list[tuple[int, int] | None]:
    return [server.asked.ports for server in servers(Asked(), manifests)]


def test_one_alone_is_asked_for_as_it_was_typed(tmp_path: Path):
    path = manifest(tmp_path, "weather")
    asked = Asked(command=("true",), listen="127.0.0.1:0")
    (server,) = servers(asked, [path])
    assert server.name == "weather"
    assert server.asked == Asked(manifest=path, command=("true",), listen="127.0.0.1:0")
    assert servers(asked, []) == [("server", asked)]


def test_each_has_the_next_ports_that_no_other_has(tmp_path: Path):
    a, b, c = (manifest(tmp_path, name, port=8000 + number) for number, name in enumerate("abc"))
    assert ports(a, b, c) == [(18080, 18090), (18081, 18091), (18082, 18092)]


def test_ports_that_are_written_are_kept_and_others_give_way(tmp_path: Path):
    a = manifest(tmp_path, "a", port=8000)
    b = manifest(tmp_path, "b", port=18081)
    c = manifest(tmp_path, "c", port=8002, sidecar={"port": 18080, "adminPort": 18092})
    assert ports(a, b, c) == [(18082, 18090), (18083, 18091), (18080, 18092)]
    last = manifest(tmp_path, "last", port=65535, sidecar={"port": 65534})
    other = manifest(tmp_path, "other", port=8001, sidecar={"port": 65534})
    assert ports(last, other) == [(65534, 18090), (1024, 18091)]


def test_those_of_one_name_are_told_apart_by_their_namespaces(tmp_path: Path):
    paths = [
        manifest(tmp_path, "weather"),
        manifest(tmp_path, "weather", "staging", port=8001),
        manifest(tmp_path, "tides", port=8002),
    ]
    assert [server.name for server in servers(Asked(), paths)] == [
        "default/weather", "staging/weather", "tides",
    ]  # fmt: skip


def test_two_that_start_nothing_may_stand_before_one_server(tmp_path: Path):
    before = manifest(tmp_path, "before", command=["server"])
    after = manifest(tmp_path, "after")
    assert len(servers(Asked(), [before, after])) == 2
    other = manifest(tmp_path, "other", command=["server"])
    with pytest.raises(
        ConfigError, match="default/before and default/other would both listen on port 8000"
    ):
        servers(Asked(), [before, other])


def test_what_is_asked_for_reaches_the_process_that_serves():
    asked = Asked(
        Path("a file.yaml"),
        ("sh", "-c", 'echo "é\udcff"'),
        1,
        "h:1",
        "h:2",
        Path("keys"),
        "n",
        (1, 2),
        True,
    )
    assert read(written(asked)) == asked
    assert read(written(Asked())) == Asked()
