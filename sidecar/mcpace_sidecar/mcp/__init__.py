"""MCP and JSON-RPC as bytes: what a message is, what an answer says, which methods there are. Pure.

The call and the cache ask it; what can be read in two ways it refuses.
"""
