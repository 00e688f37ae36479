"""The command line: a thin front over the sidecar and the operator."""
