"""`GET /`: the page on which a person sees what `/stats` tells.

It is one answer, made of three plain files at the first request, and holds no data: its script asks for
the token and keeps it nowhere. What it shows was written by servers, so nothing runs but this one script.
"""

from __future__ import annotations

import functools
from base64 import b64encode
from hashlib import sha256
from pathlib import Path

_FOLDER = Path(__file__).parent
_CSP = (
    "default-src 'none'; script-src {script}; style-src {style}; connect-src 'self'; img-src data:;"
    " base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script';"
    " trusted-types 'none'"
)
"""https://www.w3.org/TR/CSP3/: script and style by their hashes; texts become no markup."""
_HEAD = (
    "Content-Type: text/html; charset=utf-8\r\nCache-Control: no-cache\r\n"
    "Content-Security-Policy: {csp}\r\nReferrer-Policy: no-referrer\r\n"
    "Cross-Origin-Opener-Policy: same-origin\r\nCross-Origin-Resource-Policy: same-origin\r\n"
    "X-Frame-Options: DENY\r\n"
)


@functools.cache
def answer() -> tuple[int, bytes, bytes]:
    """Its status, header lines and body; read when it is first asked for."""
    style, script = ((_FOLDER / f"page.{kind}").read_text("utf-8") for kind in ("css", "js"))
    csp = _CSP.format(script=_hash(script), style=_hash(style))
    markup = (_FOLDER / "page.html").read_text("utf-8")
    body = markup.replace("{style}", style, 1).replace("{script}", script, 1)
    return 200, _HEAD.format(csp=csp).encode(), body.encode()


def _hash(text: str) -> str:
    return f"'sha256-{b64encode(sha256(text.encode()).digest()).decode()}'"
