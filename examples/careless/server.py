"""An MCP server that makes a new HTTPS client for every call: what an egress door is for.

PORT is where it listens, API the outside that it calls, DOOR the door that leads there.
"""

import os

import httpx2
from mcp.server.mcpserver import MCPServer

server = MCPServer("careless")


@server.tool(name="direct")
async def direct(city: str) -> str:
    """The weather, with a connection and a TLS handshake for this call alone."""
    async with httpx2.AsyncClient() as client:
        answer = await client.get(f"{os.environ['API']}/v1/weather?city={city}")
        return answer.text


@server.tool(name="through-the-door")
async def through_the_door(city: str) -> str:
    """The weather, by the same code; only the address is the door's."""
    async with httpx2.AsyncClient() as client:
        answer = await client.get(f"{os.environ['DOOR']}/weather?city={city}")
        return answer.text


if __name__ == "__main__":
    server.run("streamable-http", host="127.0.0.1", port=int(os.environ["PORT"]), json_response=True)
