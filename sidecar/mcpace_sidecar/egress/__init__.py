"""Doors on the loopback for the server's own calls: pooled, and with TLS from here on.

`process` opens them as the configuration says, and the server calls through them. They know no MCP, refuse
what is no HTTP, and repeat nothing that may not be repeated.
"""
