"""Files that are generated: current, and named with the command that mends them where they are not."""

from __future__ import annotations

from pathlib import Path

import pytest
from tools import chart, generate


def test_every_generated_file_is_current() -> None:
    assert generate.stale() == []


def test_a_stale_file_is_named_with_the_command_that_mends_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    generate.write(tmp_path)
    assert generate.stale(tmp_path) == []
    (tmp_path / "docs/reference.md").write_text("older")
    (tmp_path / "crds/mcpservers.yaml").unlink()
    named = ["crds/mcpservers.yaml", "docs/reference.md"]
    assert generate.stale(tmp_path) == named
    monkeypatch.setattr(generate, "stale", lambda: named)
    monkeypatch.setattr("sys.argv", ["generate", "--check"])
    assert generate.main() == 1
    assert capsys.readouterr().err == (
        "Not current: crds/mcpservers.yaml, docs/reference.md. Run python -m tools.generate and commit.\n"
    )


def test_a_value_of_the_chart_of_which_nothing_is_said_is_named(tmp_path: Path) -> None:
    path = tmp_path / chart.VALUES
    path.parent.mkdir(parents=True)
    text = (chart.ROOT / chart.VALUES).read_text()
    path.write_text(text.replace("  # The pods' PriorityClass.\n", "", 1))
    line = text[: text.index("  # The pods' PriorityClass.")].count("\n") + 1
    with pytest.raises(ValueError, match=rf"values.yaml:{line}: say above operator.priorityClassName what"):
        chart.readme(tmp_path)


def test_what_cannot_be_made_is_said_where_it_is_written(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def unsaid() -> str:
        raise ValueError("charts/mcpace/values.yaml:7: say above rbac.create what it is")

    monkeypatch.setattr(generate, "GENERATED", {"charts/mcpace/README.md": unsaid})
    for arguments in ([], ["--check"]):
        monkeypatch.setattr("sys.argv", ["generate", *arguments])
        assert generate.main() == 1
        assert capsys.readouterr().err == "charts/mcpace/values.yaml:7: say above rbac.create what it is\n"
