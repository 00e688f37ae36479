"""The operator's environment: what it says, and what to write where it says nothing that can be used."""

from __future__ import annotations

import os

import pytest

from mcpace_operator.settings import DEFAULTS, OperatorSettings
from mcpace_sidecar.errors import ConfigError

KEY = {"MCPACE_MASTER_KEY": "k" * 32}


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without what this process was given."""
    for name in [name for name in os.environ if name.startswith("MCPACE_")]:
        monkeypatch.delenv(name)


def read(monkeypatch: pytest.MonkeyPatch, **environment: str) -> OperatorSettings:
    for name, value in (KEY | environment).items():
        monkeypatch.setenv(name, value)
    return OperatorSettings.from_environment()


def test_a_key_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = read(monkeypatch)
    assert settings.master_key.current == b"k" * 32
    assert (settings.health_port, settings.instance, settings.namespaces) == (8080, "mcpace", ())
    assert settings.sidecar_image == DEFAULTS.sidecar_image
    assert (settings.election, settings.key_secret, settings.fixed_user_ids) == (None, None, True)


def test_what_is_said_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = read(
        monkeypatch,
        MCPACE_HEALTH_PORT="9090",
        MCPACE_LIMITS_URL="redis://:hidden@limits:6379",
        MCPACE_EMBEDDED_STORES="limits,cache",
        MCPACE_CALLERS='[{"podSelector":{}}]',
        MCPACE_MONITOR_LABELS='{"release":"prometheus"}',
        MCPACE_GRAFANA_URL="https://grafana.example",
        MCPACE_RUNBOOKS_URL="https://wiki.example",
        MCPACE_FIXED_USER_IDS="false",
        MCPACE_LEASE_NAMESPACE="sys",
        MCPACE_IDENTITY="pod-1",
    )
    assert settings.health_port == 9090
    assert settings.embedded == {"limits", "cache"}
    assert settings.callers == ({"podSelector": {}},)
    assert settings.monitor_labels == {"release": "prometheus"}
    assert settings.links == ("https://wiki.example", "https://grafana.example")
    assert settings.election == ("sys", "pod-1")
    assert not settings.fixed_user_ids
    assert "hidden" not in repr(settings)
    assert "k" * 32 not in repr(settings)


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({"MCPACE_MASTER_KEY": ""}, "MCPACE_MASTER_KEY .* is missing"),
        ({"MCPACE_MASTER_KEY": "short"}, "too short"),
        ({"MCPACE_MASTER_KEY_SECRET": "no-namespace"}, "write NAMESPACE/NAME"),
        ({"MCPACE_HEALTH_PORT": "0"}, "a number from 1 to 65535, not '0'"),
        ({"MCPACE_HEALTH_PORT": "65536"}, "MCPACE_HEALTH_PORT is no port"),
        ({"MCPACE_HEALTH_PORT": "\uff19\uff10"}, "is no port"),
        ({"MCPACE_CALLERS": "{"}, "MCPACE_CALLERS is no JSON"),
        ({"MCPACE_CALLERS": "{}"}, "MCPACE_CALLERS must be a list in JSON"),
        ({"MCPACE_CALLERS": "[5]"}, "a list of objects in JSON, each a peer of a NetworkPolicy"),
        ({"MCPACE_MONITOR_LABELS": "[]"}, "must be an object in JSON"),
        ({"MCPACE_IDENTITY": "pod-1"}, "go together: set both, or neither"),
    ],
)
def test_what_cannot_be_used_is_refused_with_what_to_write(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        read(monkeypatch, **environment)


def test_where_there_is_no_key_its_secret_is_made_and_left_alone_where_there_is_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = {"MCPACE_MASTER_KEY_SECRET": "sys/mcpace"}
    assert read(monkeypatch, **asked).key_secret is None
    assert read(monkeypatch, MCPACE_MASTER_KEY="", **asked).key_secret == ("sys", "mcpace")


@pytest.mark.parametrize(
    ("instance", "release"),
    [("sys/mcpace", "sys.mcpace"), ("n" * 62 + "/mcpace", "n" * 62), ("mcpace", "mcpace")],
)
def test_the_release_is_a_label_whatever_its_name(instance: str, release: str) -> None:
    assert OperatorSettings(instance=instance).release == release
