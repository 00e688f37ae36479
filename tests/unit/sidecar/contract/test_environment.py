"""What a process is told by its environment."""

import re
from pathlib import Path

import pytest

from mcpace_sidecar.contract.environment import LIMITS_URL, NAMESPACES, VARIABLES
from mcpace_sidecar.errors import ConfigError

ROOT = Path(__file__).parents[4]


def test_a_secret_stands_in_the_variable_or_in_the_file_that_it_names(tmp_path, monkeypatch):
    assert LIMITS_URL.read() is None
    file = tmp_path / "url"
    file.write_text("redis://a\n")
    monkeypatch.setenv("MCPACE_LIMITS_URL_FILE", str(file))
    assert LIMITS_URL.read() == "redis://a"
    monkeypatch.setenv("MCPACE_LIMITS_URL", "redis://b")
    assert LIMITS_URL.read() == "redis://b"


def test_a_file_that_cannot_be_read_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("MCPACE_LIMITS_URL_FILE", str(tmp_path / "none"))
    with pytest.raises(ConfigError, match=r"MCPACE_LIMITS_URL_FILE: .*none: No such file"):
        LIMITS_URL.read()
    (tmp_path / "none").write_bytes(b"\xff")
    with pytest.raises(ConfigError, match="no text in UTF-8"):
        LIMITS_URL.read()


def test_what_is_no_secret_is_read_from_no_file(tmp_path, monkeypatch):
    (tmp_path / "names").write_text("a")
    monkeypatch.setenv("MCPACE_NAMESPACES_FILE", str(tmp_path / "names"))
    assert NAMESPACES.names() == ()
    monkeypatch.setenv("MCPACE_NAMESPACES", "a,,b")
    assert NAMESPACES.names() == ("a", "b")


def test_what_the_chart_sets_is_read_by_somebody():
    known = {str(variable) for variable in VARIABLES}
    text = "\n".join(path.read_text() for path in (ROOT / "charts/mcpace/templates").rglob("*.yaml"))
    written = set(re.findall(r"name: (MCPACE_[A-Z_]+)$", text, flags=re.MULTILINE))
    assert written
    assert written <= known


def test_no_name_of_a_variable_stands_in_the_code_a_second_time():
    """Words that a person reads may name one; code that reads one asks the table."""
    names = "|".join(str(variable) for variable in VARIABLES)
    reads = re.compile(rf'(environ[^\n]*|secret\(|"name": )["\'](?:{names})["\']')
    found = [
        f"{path.relative_to(ROOT)}: {match[0]}"
        for package in ("sidecar", "operator", "cli")
        for path in (ROOT / package).rglob("*.py")
        for match in reads.finditer(path.read_text())
    ]
    assert found == []
