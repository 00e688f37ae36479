"""`mcpace bench`: how quick an MCP server is, and what a manifest makes of it.

`command` is what people type, `bench` one run of it from the first look to the report. `contenders` are what is
measured against each other: servers, and manifests that are run for the occasion, each also by its levers.
`arguments` are what the tools are called with, `load` makes the calls and notes how long each took, `result` is what
was measured, kept and compared, and `report` shows it on a page, whose charts are drawn by `plot`.
"""
