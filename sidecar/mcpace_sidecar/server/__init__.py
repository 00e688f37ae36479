"""The MCP server beside us: the handshake, a session with it, what it uses, why it does not answer.

`process` keeps the handshake, `admin` shows what is known of it, and the command line calls tools through
a session. What a server answers that is no MCP comes out as McpaceError, whatever it is.
"""
