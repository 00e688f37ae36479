"""HTTP/1.1 on both sides of the proxy: heads, framing, connections. Knows nothing of MCP."""
