"""`python -m mcpace_sidecar.drain PORT`: asks the sidecar of this pod to drain. The pod's preStop.

By its admin port and not by a signal, because a pod whose containers share their processes has another
process 1. It imports next to nothing: a pod that ends waits for it.
"""

from __future__ import annotations

import http.client
import sys
from typing import Final

from mcpace_sidecar.contract.environment import ADMIN_TOKEN
from mcpace_sidecar.contract.surface import Path

TIMEOUT: Final = 3.0
"""Seconds; a sidecar that does not answer is told to end in its turn all the same."""


def main() -> int:
    """Ask; the exit code."""
    connection = http.client.HTTPConnection("127.0.0.1", int(sys.argv[1]), timeout=TIMEOUT)
    token = ADMIN_TOKEN.read() or ""
    try:
        connection.request("POST", Path.DRAIN, headers={"Authorization": f"Bearer {token}"})
        status = connection.getresponse().status
    except OSError as error:
        sys.stderr.write(f"The sidecar was not reached: {error}\n")
        return 1
    finally:
        connection.close()
    if status != 200:
        sys.stderr.write(f"The sidecar answered HTTP {status}\n")
    return int(status != 200)


if __name__ == "__main__":
    sys.exit(main())
