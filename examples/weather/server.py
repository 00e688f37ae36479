"""A small real MCP server on the official SDK: the weather, slowly, as a remote API would tell it.

Serves streamable HTTP of every MCP era on $HOST:$PORT.
"""

import asyncio
import os
from typing import Any

from mcp.server.mcpserver import MCPServer
from mcp.types import ToolAnnotations

server = MCPServer("weather", version="1.4.0", log_level="WARNING")

_CLIMATE = {
    "paris": (12, "cloudy"),
    "lima": (19, "mist"),
    "oslo": (-3, "snow"),
    "cairo": (24, "sunny"),
}
_alerts: list[str] = []


@server.tool(name="get-weather", annotations=ToolAnnotations(read_only_hint=True))
async def get_weather(city: str) -> dict[str, Any]:
    """Get the weather of a city. Takes a while, as asking a remote service does."""
    await asyncio.sleep(0.25)
    degrees, sky = _CLIMATE.get(city.lower(), (15, "fair"))
    return {"city": city, "degrees": degrees, "sky": sky}


@server.tool(name="forecast", annotations=ToolAnnotations(read_only_hint=True))
async def forecast(city: str, days: int = 3) -> list[dict[str, Any]]:
    """Forecast the weather of a city, day by day."""
    degrees, sky = _CLIMATE.get(city.lower(), (15, "fair"))
    return [{"day": day + 1, "degrees": degrees + day % 3, "sky": sky} for day in range(days)]


@server.tool(name="report-storm", annotations=ToolAnnotations(read_only_hint=False))
async def report_storm(city: str) -> str:
    """Report a storm; the number of reports so far is the answer."""
    _alerts.append(city)
    return f"{len(_alerts)} storms reported"


if __name__ == "__main__":
    host, port = os.environ.get("HOST", "127.0.0.1"), int(os.environ.get("PORT", "8000"))
    server.run("streamable-http", host=host, port=port)
