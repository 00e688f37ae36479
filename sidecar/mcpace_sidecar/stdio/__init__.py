"""Servers that speak over standard input and output: their processes, as one more kind of `Backend`.

To the path of a call they are a small Streamable HTTP server of 2025-11-25, made of values: `serving` is
what both kinds of it share, `sessions` gives each session a process, `shared` all clients the same ones. A
process is reached by pipes on a laptop, by a connection in a pod; whichever it is, one `Process` reads its
lines. Source: MCP 2025-11-25, basic/transports.
"""
