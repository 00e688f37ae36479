"""`mcpace run` as people see it: several servers at once, and a live view of them on a terminal.

`command` is what people type; `servers` says which they are, and tells them apart; `lead` runs a process
for each (`one`, which serves as `laptop` does), ends them with itself, and has them shown: by `view` on a
terminal, by `plainly` elsewhere. A process that serves tells by its `tie` where it is; `served` is what is
known of it here, and `rates` how many calls it gets now. `frame` makes of that what is drawn; `terminal`
draws it, and tells which keys are pressed.

A process each, because what a server has started is known by what is below the process that serves it, and
because calls should not wait while a view of them is drawn.
"""
