"""The MCP server beside us: the handshake, a session with it, what it uses, why it does not answer."""
