"""How far a call has come. From FORWARD on the server was asked, and may have done what it was asked."""

from __future__ import annotations

from typing import Final

ROUTE: Final = 0
IDENTIFY: Final = 1
CLASSIFY: Final = 2
ADMIT: Final = 3
LOOK_UP: Final = 4
ENTER: Final = 5
PARTS: Final = 6
FORWARD: Final = 7
TAKE: Final = 8
PURGE: Final = 9
END: Final = 10
ENDED: Final = 11
WORDS: Final = (
    "is routed",
    "is identified",
    "is classified",
    "is admitted",
    "is looked up",
    "waits for a slot",
    "waits for its parts",
    "waits for the server",
    "is being answered",
    "makes old what it has changed",
    "ends",
    "has ended",
)
