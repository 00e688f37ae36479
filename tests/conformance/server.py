"""What the official conformance suite wants a server to offer, on the official SDK.

PORT=8000 python tests/conformance/server.py; without PORT it speaks over stdio.
"""

import asyncio
import base64
import json
import os
from typing import Any

import mcp_types as types
from contents import PNG, ROOTS, WAV, embedded, question, sampled, sampling, text
from mcp.server.mcpserver import Context, MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp.server.mcpserver.prompts.base import Prompt, UserMessage
from mcp.shared.exceptions import MCPError

server = MCPServer("conformance", version="1.0.0")
asked = types.InputRequiredResult


@server.tool()
def test_simple_text() -> types.CallToolResult:
    """Says one thing."""
    return text("This is a simple text response for testing.")


@server.tool()
def test_image_content() -> types.CallToolResult:
    """Shows a pixel."""
    return types.CallToolResult(content=[types.ImageContent(type="image", data=PNG, mime_type="image/png")])


@server.tool()
def test_audio_content() -> types.CallToolResult:
    """Plays nothing."""
    return types.CallToolResult(content=[types.AudioContent(type="audio", data=WAV, mime_type="audio/wav")])


@server.tool()
def test_embedded_resource() -> types.CallToolResult:
    """Embeds a resource."""
    return types.CallToolResult(
        content=[embedded("test://embedded-resource", "This is an embedded resource content.")]
    )


@server.tool()
def test_multiple_content_types() -> types.CallToolResult:
    """Mixes content."""
    return types.CallToolResult(
        content=[
            types.TextContent(type="text", text="Multiple content types test:"),
            types.ImageContent(type="image", data=PNG, mime_type="image/png"),
            embedded("test://mixed-content-resource", '{"test":"data","value":123}', "application/json"),
        ]
    )


@server.tool()
async def test_tool_with_logging(ctx: Context) -> types.CallToolResult:
    """Logs while it works."""
    for words in ("Tool execution started", "Tool processing data", "Tool execution completed"):
        await ctx.info(words)
        await asyncio.sleep(0.05)
    return text("logged")


@server.tool()
def test_error_handling() -> types.CallToolResult:
    """Fails."""
    raise ToolError("This tool intentionally returns an error for testing")


@server.tool()
async def test_tool_with_progress(ctx: Context) -> types.CallToolResult:
    """Reports how far it is."""
    for done in (0, 50, 100):
        await ctx.report_progress(done, 100)
        await asyncio.sleep(0.05)
    return text("done")


@server.tool()
async def test_sampling(prompt: str, ctx: Context) -> types.CallToolResult:
    """Asks the client's model."""
    params = sampling(prompt, 100)
    # On the stream of the call itself: the client may not have opened its other one yet.
    result = await ctx.session.create_message(
        messages=params.messages, max_tokens=params.max_tokens, related_request_id=ctx.request_id
    )
    words = result.content.text if isinstance(result.content, types.TextContent) else ""
    return text(f"LLM response: {words}")


async def elicited(ctx: Context, message: str, schema: dict[str, Any]) -> str:
    result = await ctx.session.elicit_form(message, schema, related_request_id=ctx.request_id)
    return f"action={result.action}, content={json.dumps(result.content)}"


@server.tool()
async def test_elicitation(message: str, ctx: Context) -> types.CallToolResult:
    """Asks the user."""
    field = {"type": "string", "description": "User's response"}
    schema = {
        "type": "object",
        "properties": {"username": field, "email": field | {"description": "User's email address"}},
        "required": ["username", "email"],
    }
    return text(f"User response: {await elicited(ctx, message, schema)}")


@server.tool()
async def test_elicitation_sep1034_defaults(ctx: Context) -> types.CallToolResult:
    """Asks with defaults."""
    properties = {
        "name": {"type": "string", "default": "John Doe"},
        "age": {"type": "integer", "default": 30},
        "score": {"type": "number", "default": 95.5},
        "status": {"type": "string", "enum": ["active", "inactive", "pending"], "default": "active"},
        "verified": {"type": "boolean", "default": True},
    }
    words = await elicited(ctx, "Defaults", {"type": "object", "properties": properties})
    return text(f"Elicitation completed: {words}")


@server.tool()
async def test_elicitation_sep1330_enums(ctx: Context) -> types.CallToolResult:
    """Asks for choices."""
    options = ["option1", "option2", "option3"]
    titled = [
        {"const": f"value{n}", "title": f"{title} Option"}
        for n, title in enumerate(("First", "Second", "Third"), 1)
    ]
    properties = {
        "untitledSingle": {"type": "string", "enum": options},
        "titledSingle": {"type": "string", "oneOf": titled},
        "legacyEnum": {
            "type": "string",
            "enum": ["opt1", "opt2", "opt3"],
            "enumNames": ["Option One", "Option Two", "Option Three"],
        },
        "untitledMulti": {"type": "array", "items": {"type": "string", "enum": options}},
        "titledMulti": {"type": "array", "items": {"anyOf": titled}},
    }
    words = await elicited(ctx, "Choices", {"type": "object", "properties": properties})
    return text(f"Elicitation completed: {words}")


# -- results that need input first (2026-07-28)


def answers(ctx: Context, *names: str) -> list[Any] | None:
    given = ctx.input_responses or {}
    return [given[name] for name in names] if all(name in given for name in names) else None


def content_of(answer: Any, name: str) -> Any:
    return (getattr(answer, "content", None) or {}).get(name)


@server.tool()
async def test_input_required_result_elicitation(ctx: Context) -> types.CallToolResult | asked:
    """Asks for a name."""
    got = answers(ctx, "user_name")
    if got is None or not content_of(got[0], "name"):
        return asked(input_requests={"user_name": question("What is your name?", name="string")})
    return text(f"Hello, {content_of(got[0], 'name')}!")


@server.tool()
async def test_input_required_result_sampling(ctx: Context) -> types.CallToolResult | asked:
    """Asks a model."""
    got = answers(ctx, "capital_question")
    if got is None:
        return asked(input_requests={"capital_question": sampled("What is the capital of France?", 100)})
    return text(str(getattr(got[0].content, "text", got[0].content)))


@server.tool()
async def test_input_required_result_list_roots(ctx: Context) -> types.CallToolResult | asked:
    """Asks for roots."""
    got = answers(ctx, "client_roots")
    if got is None:
        return asked(input_requests={"client_roots": ROOTS})
    return text(" ".join(str(root.uri) for root in got[0].roots))


@server.tool()
async def test_input_required_result_request_state(ctx: Context) -> types.CallToolResult | asked:
    """Keeps a state with the client."""
    if answers(ctx, "confirm") is None or ctx.request_state != "the-state":
        return asked(
            input_requests={"confirm": question("Please confirm", ok="boolean")}, request_state="the-state"
        )
    return text("state-ok")


@server.tool()
async def test_input_required_result_multiple_inputs(ctx: Context) -> types.CallToolResult | asked:
    """Asks three things."""
    if answers(ctx, "user_name", "greeting", "client_roots") is None:
        return asked(
            input_requests={
                "user_name": question("What is your name?", name="string"),
                "greeting": sampled("Generate a greeting", 50),
                "client_roots": ROOTS,
            },
            request_state="many",
        )
    return text("all there")


@server.tool()
async def test_input_required_result_multi_round(ctx: Context) -> types.CallToolResult | asked:
    """Asks twice."""
    if answers(ctx, "step2") is not None and ctx.request_state == "round-2":
        return text("both there")
    if answers(ctx, "step1") is not None and ctx.request_state == "round-1":
        step = question("Step 2: What is your favorite color?", color="string")
        return asked(input_requests={"step2": step}, request_state="round-2")
    step = question("Step 1: What is your name?", name="string")
    return asked(input_requests={"step1": step}, request_state="round-1")


@server.tool()
async def test_input_required_result_tampered_state(ctx: Context) -> types.CallToolResult | asked:
    """Notices a changed state."""
    if answers(ctx, "confirm") is None:
        return asked(
            input_requests={"confirm": question("Please confirm", ok="boolean")}, request_state="sealed"
        )
    return text("untouched")


@server.tool()
async def test_input_required_result_capabilities(ctx: Context) -> types.CallToolResult | asked:
    """Asks only what the client can answer."""
    can = ctx.client_capabilities
    requests: dict[str, Any] = {}
    if can is not None and can.elicitation is not None:
        requests["user_name"] = question("What is your name?", name="string")
    if can is not None and can.sampling is not None:
        requests["greeting"] = sampled("Generate a greeting", 50)
    if can is not None and can.roots is not None:
        requests["client_roots"] = ROOTS
    if not requests or ctx.input_responses:
        return text("enough")
    return asked(input_requests=requests)


@server.tool()
async def test_missing_capability(ctx: Context) -> types.CallToolResult:
    """Needs a client that samples."""
    can = ctx.client_capabilities
    if can is None or can.sampling is None:
        data = {"requiredCapabilities": {"sampling": {}}}
        raise MCPError(types.MISSING_REQUIRED_CLIENT_CAPABILITY, "It needs sampling", data)
    return text("it samples")


@server.tool()
async def test_trigger_tool_change(ctx: Context) -> types.CallToolResult:
    """Says that the tools have changed."""
    await ctx.notify_tools_changed()
    return text("said so")


@server.tool()
async def test_trigger_prompt_change(ctx: Context) -> types.CallToolResult:
    """Says that the prompts have changed."""
    await ctx.notify_prompts_changed()
    return text("said so")


# -- resources and prompts


@server.resource("test://static-text", mime_type="text/plain", description="A text.")
def static_text() -> str:
    return "This is the content of the static text resource."


@server.resource("test://static-binary", mime_type="image/png", description="A pixel.")
def static_binary() -> bytes:
    return base64.b64decode(PNG)


@server.resource("test://watched-resource", mime_type="text/plain", description="Something to watch.")
def watched() -> str:
    return "as it was"


@server.resource("test://template/{id}/data", mime_type="application/json", description="By id.")
def template(id: str) -> str:  # noqa: A002 - because the template calls it so
    return json.dumps({"id": id, "templateTest": True, "data": f"Data for ID: {id}"})


@server.prompt()
def test_simple_prompt() -> str:
    """Says one thing."""
    return "This is a simple prompt for testing."


@server.prompt()
def test_prompt_with_arguments(arg1: str, arg2: str) -> str:
    """Says what it was given."""
    return f"Prompt with arguments: arg1='{arg1}', arg2='{arg2}'"


@server.prompt()
def test_prompt_with_embedded_resource(resourceUri: str) -> list[UserMessage]:  # noqa: N803 - because the suite calls it so
    """Embeds a resource."""
    return [
        UserMessage(content=embedded(resourceUri, "Embedded resource content for testing.")),
        UserMessage(content="Please process the embedded resource above."),
    ]


@server.prompt()
def test_prompt_with_image() -> list[UserMessage]:
    """Shows a pixel."""
    return [
        UserMessage(content=types.ImageContent(type="image", data=PNG, mime_type="image/png")),
        UserMessage(content="Please analyze the image above."),
    ]


async def prompted(ctx: Context) -> str | asked:
    """Asks for a context."""
    got = answers(ctx, "user_context")
    if got is None:
        request = question("What context should the prompt use?", context="string")
        return asked(input_requests={"user_context": request})
    return f"In the context of {content_of(got[0], 'context')}"


server.add_prompt(Prompt.from_function(prompted, name="test_input_required_result_prompt"))


@server.completion()
async def complete(ref: Any, argument: Any, context: Any) -> types.Completion:
    del ref, argument, context
    return types.Completion(values=["paris", "park", "party"], total=3, has_more=False)


async def accepted(ctx: Any, params: Any) -> types.EmptyResult:
    del ctx, params
    return types.EmptyResult()


# What the SDK no longer offers by itself, and the suite of 2025-11-25 asks for.
for method, params in (
    ("logging/setLevel", types.SetLevelRequestParams),
    ("resources/subscribe", types.SubscribeRequestParams),
    ("resources/unsubscribe", types.UnsubscribeRequestParams),
):
    server._lowlevel_server.add_request_handler(method, params, accepted)


if __name__ == "__main__":
    if "PORT" in os.environ:
        host = os.environ.get("HOST", "127.0.0.1")
        server.run("streamable-http", host=host, port=int(os.environ["PORT"]))
    else:
        server.run("stdio")
