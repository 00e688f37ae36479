"""How a server of stdio is run in a pod: one connection to the pod's loopback is one process of it.

tcpsvd makes it so, and tini ends them all with the pod. Both come from the sidecar's image, with a loader
and a libc of their own, because the server's image may have none: it needs no shell, and nothing of ours.
"""

from __future__ import annotations

from typing import Any, Final

from mcpace_operator.children.context import Context
from mcpace_operator.children.sidecar import security
from mcpace_sidecar.contract.surface import STDIO_PORT

NAME: Final = "mcpace-stdio"
FOLDER: Final = "/mcpace"
SHIPPED: Final = "/opt/stdio"
"""Where the sidecar's image has what is copied."""
PROCESS: Final = 64
"""MiB of one process of a usual server, what it shares with others counted by its share: they have 31 to 66
(PSS; benchmarks/processes.py)."""
AHEAD: Final = 4
"""Processes, beside the warm ones, for which memory is requested where the manifest requests none."""
_MOST: Final = 4096
"""Connections; how many processes there may be is the sidecar's to say, and this never in its way."""
_BACKLOG: Final = 200


def is_asked_for(context: Context) -> bool:
    """Whether the server speaks over its standard input and output."""
    return context.spec.transport == "stdio"


def containers(context: Context) -> list[dict[str, Any]]:
    """The container that brings what starts processes."""
    if not is_asked_for(context):
        return []
    return [
        {
            "name": NAME,
            "image": context.settings.sidecar_image,
            "imagePullPolicy": context.settings.sidecar_pull_policy,
            "terminationMessagePolicy": "FallbackToLogsOnError",
            "command": ["cp", "-R", f"{SHIPPED}/.", FOLDER],
            "resources": {"requests": {"cpu": "10m", "memory": "16Mi"}, "limits": {"memory": "64Mi"}},
            "securityContext": security(context),
            "volumeMounts": [{"name": NAME, "mountPath": FOLDER}],
        }
    ]


def volumes(context: Context) -> list[dict[str, Any]]:
    """Where it is."""
    return [{"name": NAME, "emptyDir": {"sizeLimit": "8Mi"}}] if is_asked_for(context) else []


def mounts(context: Context) -> list[dict[str, Any]]:
    """What the server's container mounts of it."""
    if not is_asked_for(context):
        return []
    return [{"name": NAME, "mountPath": FOLDER, "readOnly": True}]


def command(context: Context) -> list[str]:
    """What the server's container runs: the manifest's command and arguments, once a connection."""
    spec = context.spec
    if not is_asked_for(context):
        return list(spec.command)
    # tini: reaps what processes leave behind, and passes the end of the pod on to all of them.
    tini = [f"{FOLDER}/tini", "-s", "-g", "--"]
    # tcpsvd: -E adds nothing to their environment, and without -l it would look the pod's name up.
    loaded = [f"{FOLDER}/ld.so", "--library-path", f"{FOLDER}/lib", f"{FOLDER}/tcpsvd"]
    listening = ["-E", "-l", "mcpace", "-c", str(_MOST), "-b", str(_BACKLOG), "127.0.0.1", str(STDIO_PORT)]
    return [*tini, *loaded, *listening, *spec.command, *spec.args]


def memory(context: Context) -> str:
    """What the server's container requests where its manifest says nothing of memory."""
    stdio = context.spec.stdio
    return f"{PROCESS * min(stdio.most, stdio.warm + AHEAD)}Mi"
