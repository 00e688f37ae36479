"""One call, from its head to its record: what it is, what is done about it, every way in which it ends.

`port` makes an exchange of each request; nothing here parses HTTP or touches a socket.
"""
