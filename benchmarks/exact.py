"""A sidecar whose every counted call asks Redis: what leases are measured against.

MCPACE_LIMITS_URL, then the configuration, data port, admin port and upstream port as arguments.
"""

from __future__ import annotations

import functools
import sys
from pathlib import Path

import uvloop

from mcpace_sidecar.contract.config import load
from mcpace_sidecar.contract.environment import LIMITS_URL
from mcpace_sidecar.http.address import Address
from mcpace_sidecar.main import serve
from mcpace_sidecar.process.options import Options

config = Path(sys.argv[1])
data, admin, upstream = (Address("127.0.0.1", int(port)) for port in sys.argv[2:5])
options = Options(
    load=functools.partial(load, config),
    watched=(),
    listen=data,
    admin_listen=admin,
    upstream=upstream,
    limits_url=LIMITS_URL.read(),
    leasing=False,
)
uvloop.run(serve(options))
