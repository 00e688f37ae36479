"""Pods of a server where there is no kubelet."""

from __future__ import annotations

import json

from tools.cluster.kubectl import Kubectl


def pod(api: Kubectl, name: str, address: str = "127.0.0.1") -> None:
    """A ready pod of the server's, as a kubelet would tell of it."""
    body = {
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "labels": {"mcpace.dev/server": "weather"}},
        "spec": {"containers": [{"name": "server", "image": "weather:1"}]},
    }  # fmt: skip
    api.ok("apply", "-f", "-", stdin=json.dumps(body))
    conditions = [{"type": "Ready", "status": "True"}]
    status = {"status": {"podIP": address, "podIPs": [{"ip": address}], "conditions": conditions}}
    api.ok("patch", "pod", name, "--subresource=status", "-p", json.dumps(status))
