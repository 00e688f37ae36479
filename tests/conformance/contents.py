"""What the answers of the conformance suite's server are made of."""

import base64

import mcp_types as types

PNG = base64.b64encode(
    base64.b64decode(
        "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8BQDwAEhQGAhKmMIQAAAABJRU5ErkJggg=="
    )
).decode()
WAV = base64.b64encode(
    b"RIFF$\0\0\0WAVEfmt \x10\0\0\0\x01\0\x01\0\x40\x1f\0\0\x40\x1f\0\0\x01\0\x08\0data\0\0\0\0"
).decode()
ROOTS = types.ListRootsRequest(method="roots/list")


def text(words: str) -> types.CallToolResult:
    return types.CallToolResult(content=[types.TextContent(type="text", text=words)])


def embedded(uri: str, words: str, mime: str = "text/plain") -> types.EmbeddedResource:
    contents = types.TextResourceContents(uri=uri, mime_type=mime, text=words)
    return types.EmbeddedResource(type="resource", resource=contents)


def sampling(prompt: str, tokens: int) -> types.CreateMessageRequestParams:
    message = types.SamplingMessage(role="user", content=types.TextContent(type="text", text=prompt))
    return types.CreateMessageRequestParams(messages=[message], max_tokens=tokens)


def question(message: str, **properties: str) -> types.ElicitRequest:
    schema = {
        "type": "object",
        "properties": {name: {"type": kind} for name, kind in properties.items()},
        "required": list(properties),
    }
    return types.ElicitRequest(
        method="elicitation/create",
        params=types.ElicitRequestFormParams(mode="form", message=message, requested_schema=schema),
    )


def sampled(prompt: str, tokens: int) -> types.CreateMessageRequest:
    return types.CreateMessageRequest(method="sampling/createMessage", params=sampling(prompt, tokens))
