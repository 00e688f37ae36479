"""HTTP/1.1 on both sides of the proxy: heads, framing, connections, pools. Knows nothing of MCP.

`process` and `egress` listen with it, `call`, `server` and `egress` ask servers through it. It refuses by
ProtocolError what two readers could read in two ways, and by 503 whoever finds no room; of a server that
does not answer as it should it says so by UpstreamError.
"""
