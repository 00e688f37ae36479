"""`mcpace` on a machine whose clock is so many seconds ahead: run as `tests.kit.ahead SECONDS COMMAND`."""

import runpy
import sys
import time

seconds, *sys.argv[1:] = sys.argv[1:]
true = time.time
time.time = lambda: true() + float(seconds)
runpy.run_module("mcpace_cli", run_name="__main__", alter_sys=True)
