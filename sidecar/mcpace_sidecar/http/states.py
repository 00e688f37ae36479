"""The states of connections: in one of them each is at any moment, and nothing else says how far it is.

A client's connection goes IDLE -> HEAD -> BODY -> ASKED -> BEGUN -> IDLE, passing over what comes at once;
LINGERING is the end of one that is refused. A connection to a server goes FREE -> SENT -> GATHERED or
STREAMED -> FREE; ENDED is the end of each.
"""

from __future__ import annotations

from typing import Final

# -- a client's

IDLE: Final = 0
"""No byte of a request has come."""
HEAD: Final = 1
"""The first bytes of a head have come, or wait for their turn."""
BODY: Final = 2
"""The head is read, the body comes in."""
ASKED: Final = 3
"""The request is the application's."""
BEGUN: Final = 4
"""The head of its answer is written: no second one ever is."""
LINGERING: Final = 5
"""What still comes is read into nothing, until the client has its answer."""
OF_CLIENT: Final = ("idle", "head", "body", "asked", "begun", "lingering")

# -- one to a server

FREE: Final = 0
"""No request is in progress: what comes now was not asked for."""
SENT: Final = 1
"""A request was sent; the head of its answer has not come whole."""
GATHERED: Final = 2
"""The answer's body comes in, and is handed over whole."""
STREAMED: Final = 3
"""The answer's body comes in, and is handed over piece by piece."""
ENDED: Final = 4
"""It closes, or has closed: nobody is answered here any more."""
OF_SERVER: Final = ("free", "sent", "gathered", "streamed", "ended")
