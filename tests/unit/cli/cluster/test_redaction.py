"""What is secret does not leave; what is not, stays readable."""

from __future__ import annotations

import json
from typing import Any

import pytest

from mcpace_cli.cluster import redaction
from mcpace_operator.resource.workload import Terminated
from mcpace_operator.status.diagnosis import _crashed

SECRETS = {
    "env": "hunter2-of-env",
    "argument": "sk-live-1234567890abcdef",
    "header": "header-value-9",
    "applied": "in-last-applied",
    "data": "c2VjcmV0LWRhdGE=",
    "url": "redis-password",
    "jwt": "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl",
    "known": "an-admin-token-of-a-sidecar",
    "field": "field-of-a-pod-template",
}
SERVER: dict[str, Any] = {
    "kind": "McpServer",
    "metadata": {
        "name": "weather",
        "managedFields": [{"manager": "kubectl"}],
        "annotations": {
            "kubectl.kubernetes.io/last-applied-configuration": json.dumps({"value": SECRETS["applied"]}),
            "team": "weather",
        },
    },
    "spec": {
        "image": "weather:1",
        "command": ["python", "server.py", "--key", SECRETS["argument"]],
        "args": [SECRETS["argument"]],
        "env": [
            {"name": "API_KEY", "value": SECRETS["env"]},
            {"name": "OTHER", "valueFrom": {"secretKeyRef": {"name": "weather-secret", "key": "other"}}},
        ],
        "clients": {"apiKeyHeader": "X-Weather-Key", "apiKeys": [{"secretRef": {"name": "pro-keys"}}]},
        "podTemplate": {
            "spec": {
                "password": SECRETS["field"],
                "containers": [{"httpGet": {"httpHeaders": [{"name": "X", "value": SECRETS["header"]}]}}],
            }
        },
    },
    "status": {
        "conditions": [
            {
                "type": "Ready",
                "message": f"redis://user:{SECRETS['url']}@redis:6379 refuses {SECRETS['known']}",
            },
            {"type": "Other", "message": f"exit code 1: token={SECRETS['jwt']}"},
        ]
    },
}


def test_no_secret_of_an_object_is_told_and_the_rest_is():
    told = redaction.document(SERVER, {SECRETS["known"]})
    text = json.dumps(told)
    assert not [name for name, secret in SECRETS.items() if secret in text], text
    assert told["metadata"] == {"name": "weather", "annotations": {"team": "weather"}}
    spec = told["spec"]
    assert spec["image"] == "weather:1"
    assert spec["command"] == ["python", "*** (3 more)"]
    assert spec["env"][0] == {"name": "API_KEY", "value": "***"}
    assert spec["env"][1]["valueFrom"]["secretKeyRef"] == {"name": "weather-secret", "key": "other"}
    assert spec["clients"]["apiKeyHeader"] == "X-Weather-Key"
    assert spec["clients"]["apiKeys"][0]["secretRef"] == {"name": "pro-keys"}
    assert told["status"]["conditions"][0]["message"] == "redis://***@redis:6379 refuses ***"


def test_of_a_secret_only_its_keys_are_told():
    secret = {"kind": "Secret", "metadata": {"name": "s", "labels": {}}, "data": {"a": SECRETS["data"]}}
    told = redaction.document([secret])
    assert told == [{"kind": "Secret", "metadata": {"name": "s"}, "keys": ["a"]}]


def test_of_what_a_server_said_last_neither_its_pod_nor_its_status_tells():
    said = "Oslo is no city"
    crashed = _crashed("weather", "server", Terminated(exit_code=1, message=said))
    told = redaction.document(
        {
            "containerStatuses": [{"lastState": {"terminated": {"exitCode": 1, "message": said}}}],
            "conditions": [{"message": crashed.message}],
        }
    )
    assert said not in json.dumps(told)
    assert told["containerStatuses"][0]["lastState"] == {"terminated": {"exitCode": 1, "message": "***"}}
    message = told["conditions"][0]["message"]
    assert "The container server ends with exit code 1: ***. See kubectl logs" in message


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("Authorization: Bearer abcdefgh12345", "abcdefgh12345"),
        ("curl -H 'X-API-Key: abcdefgh12345'", "abcdefgh12345"),
        ('{"password": "hunter2!"}', "hunter2!"),
        ("PGPASSWORD=hunter2 psql", "hunter2"),
        ("GET /mcp?api_key=hunter2&city=Oslo", "hunter2"),
        ("https://maps.example/v1?city=Oslo&key=hunter2", "hunter2"),
        ("https://store.example/a?X-Signature=hunter2", "hunter2"),
        ("postgres://me:hunter2@db/x", "hunter2"),
        ("key sk-ant-REDACTED", "sk-ant-abcdef"),
        ("-----BEGIN PRIVATE KEY-----\nMIIE\n-----END PRIVATE KEY-----", "MIIE"),
        ("AKIAABCDEFGHIJKLMNOP", "AKIAABCDEFGHIJKLMNOP"),
        ("redis://:an@at-hunter2@redis:6379/0", "hunter2"),
        ('{"password": "two words, hunter2"}', "hunter2"),
        ("password='it is \"hunter2\"'", "hunter2"),
        (r'{"password": "a\"hunter2"}', "hunter2"),
        (r'{"error": "{\"password\": \"hunter2\"}"}', "hunter2"),
    ],
)
def test_what_has_the_form_of_a_credential_is_masked_in_a_text(words: str, told: str):
    masked = redaction.text(words)
    assert told not in masked
    assert redaction.MASK in masked


@pytest.mark.parametrize(
    "words",
    [
        "2 of 2 replicas are ready.",
        "http://weather.default.svc/mcp",
        "https://maps.example/v1?city=Oslo&monkeys=2",
        "passed: 9 of 10",
        "secretRef: {name: pro-keys}",
        "secretRef:\n  name: pro-keys",
        "The image x@sha256:0123456789abcdef is not to be had",
    ],
)
def test_other_words_stay_as_they_are(words: str):
    assert redaction.text(words) == words


def test_a_long_line_without_any_is_read_to_its_end():
    line = "a-" * (8 << 10)
    assert redaction.text(line) == line
