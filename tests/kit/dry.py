"""What an API server thinks of an object, which is not stored."""

from __future__ import annotations

import http.client
import json
import ssl
from typing import Any

from tools.cluster.controlplane import ControlPlane

from mcpace_operator.cluster.kinds import KINDS


class Dry:
    """Applies nothing, and says what the API server thinks of it."""

    def __init__(self, plane: ControlPlane) -> None:
        context = ssl.create_default_context(cafile=str(plane.authority.ca))
        pki = plane.authority.folder
        context.load_cert_chain(pki / "admin.crt", pki / "admin.key")
        self._connection = http.client.HTTPSConnection(
            plane.address, plane.ports.api, context=context, timeout=30
        )
        self._known: dict[str, tuple[int, str]] = {}

    def close(self) -> None:
        self._connection.close()

    def apply(self, body: dict[str, Any], name: str = "") -> tuple[int, str]:
        """The status and the words; `name`: that of the path, where the body's may be none."""
        text = json.dumps(body)
        if text not in self._known:
            api, plural, *_ = KINDS[body["kind"]]
            root = f"/apis/{api}" if "/" in api else f"/api/{api}"
            path = f"{root}/namespaces/default/{plural}/{name or body['metadata']['name']}"
            query = "?dryRun=All&fieldManager=fuzz&force=true&fieldValidation=Strict"
            headers = {"Content-Type": "application/apply-patch+yaml"}
            self._connection.request("PATCH", path + query, text, headers)
            response = self._connection.getresponse()
            answer = json.loads(response.read())
            self._known[text] = (response.status, str(answer.get("message", "")))
        return self._known[text]
