"""`mcpace bench`: how quick an MCP server is, and what a manifest makes of it.

`command` is what people type, `measure` one run of it: `contenders` says who is measured, `levers` what a
manifest is without some of its parts, `stage` runs it; `calls` says what is called, with `arguments` made
from schemas; `load` makes the calls, and notes how long each took and what its `answer` says.
`result` is what was measured, kept and compared, in `units` that people read; `told` shows it on the
terminal, `report` on a page, whose charts are drawn by `plot`.
"""
