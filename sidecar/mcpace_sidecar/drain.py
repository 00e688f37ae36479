"""`python -m mcpace_sidecar.drain PORT`: asks the sidecar of this pod to drain. The pod's preStop.

By its admin port and not by a signal, because a pod whose containers share their processes has another
process 1. It imports next to nothing: a pod that ends waits for it.
"""

from __future__ import annotations

import http.client
import os
import sys
from typing import Final

TIMEOUT: Final = 3.0
"""Seconds; a sidecar that does not answer is told to end in its turn all the same."""


def main() -> int:
    """Ask; the exit code."""
    connection = http.client.HTTPConnection("127.0.0.1", int(sys.argv[1]), timeout=TIMEOUT)
    token = os.environ.get("MCPACE_ADMIN_TOKEN", "")
    try:
        connection.request("POST", "/drain", headers={"Authorization": f"Bearer {token}"})
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
