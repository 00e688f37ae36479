"""A server of stdio that misbehaves as it is told, by its first argument or by the tool that is called.

Run as a program: it starts in a few milliseconds, as no SDK's does.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any


def say(**message: Any) -> None:
    sys.stdout.write(json.dumps({"jsonrpc": "2.0"} | message) + "\n")
    sys.stdout.flush()


def text(words: str) -> dict[str, Any]:
    return {"content": [{"type": "text", "text": words}], "isError": False}


def call(number: Any, params: dict[str, Any]) -> None:
    name, arguments = params["name"], params.get("arguments") or {}
    if name == "echo":
        say(id=number, result=text(json.dumps(arguments, ensure_ascii=False)))
    elif name == "mark":
        say(id=number, result=text(os.environ["MCPACE_PROCESS"]))
    elif name == "pid":
        say(id=number, result=text(str(os.getpid())))
    elif name == "count":
        counted.append(number)
        say(id=number, result=text(str(len(counted))))
    elif name == "die":
        os._exit(3)
    elif name == "junk":
        sys.stdout.write('starting…\n{"level":"info"}\n[1]\n\n')
        say(id=number, result=text("well"))
    elif name == "latin":
        sys.stdout.reconfigure(errors="surrogateescape")  # type: ignore[union-attr]
        sys.stdout.write(f'{{"id":{number},"result":{{"content":[{{"text":"Café, ☕, \udce9"}}]}}}}\n')
        sys.stdout.flush()
    elif name == "big":
        say(id=number, result=text("x" * arguments["bytes"]))
    elif name == "hang":
        pass
    elif name == "hold":
        held.append(number)
    elif name == "release":
        for each in held:
            say(id=each, result=text("held"))
        held.clear()
        say(id=number, result=text("released"))
    elif name == "ask":
        say(id=f"q{number}", method="sampling/createMessage", params={"messages": [], "maxTokens": 1})
        asked[f"q{number}"] = number
    elif name == "progress":
        token = params["_meta"]["progressToken"]
        say(method="notifications/progress", params={"progressToken": token, "progress": 1, "total": 2})
        say(id=number, result=text(json.dumps([number, token])))
    elif name == "log":
        say(method="notifications/message", params={"level": "info", "data": "here"})
        say(id=number, result=text("logged"))
    elif name == "changed":
        say(method="notifications/tools/list_changed")
        for each in subscribed:
            say(method="notifications/tools/list_changed", params={"_meta": {SUBSCRIPTION: each}})
        say(id=number, result=text("changed"))
    elif name == "meta":
        say(id=number, result=text(json.dumps(params.get("_meta"))))
    elif name == "deaf":
        say(id=number, result=text("deaf"))
        time.sleep(3600)


SUBSCRIPTION = "io.modelcontextprotocol/subscriptionId"
counted: list[Any] = []
subscribed: list[Any] = []
held: list[Any] = []
asked: dict[Any, Any] = {}
cancelled: list[Any] = []


def answers_modern(method: Any, number: Any, message: Any) -> bool:
    """What a server without handshakes answers otherwise; whether this is such."""
    if method == "initialize":
        error = {"code": -32022, "message": "no handshakes", "data": {"supported": ["2026-07-28"]}}
        say(id=number, error=error)
    elif method == "server/discover":
        offers = {"tools": {"listChanged": True}}
        info = {"io.modelcontextprotocol/serverInfo": {"name": "lines", "version": "1"}}
        found = {"supportedVersions": ["2026-07-28"], "capabilities": offers, "_meta": info}
        say(id=number, result=found | {"resultType": "complete"})
    elif method == "subscriptions/listen":
        subscribed.append(number)
        told = {"notifications": message["params"]["notifications"], "_meta": {SUBSCRIPTION: number}}
        say(method="notifications/subscriptions/acknowledged", params=told)
    else:
        return False
    return True


def main(how: str) -> None:
    if how == "exits":
        sys.exit("no such database")
    if how == "banner":
        print("Welcome!", flush=True)
        sys.exit(1)
    if how == "silent":
        time.sleep(3600)
    if how == "deaf":
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
    if how == "forks":
        subprocess.Popen(
            [sys.executable, "-I", __file__, "deaf-child"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )
    if how == "leaves":  # as what starts a browser does
        subprocess.Popen(
            [sys.executable, "-I", __file__, "deaf-child"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            start_new_session=True,
        )
    if how.startswith("trap:"):
        signal.signal(signal.SIGTERM, lambda *_: (Path(how[5:]).write_text("trapped"), os._exit(0)))
    begun = False
    for line in sys.stdin:
        message = json.loads(line)
        method, number = message.get("method"), message.get("id")
        if how == "strict" and method not in ("initialize", None) and not begun:
            sys.exit("expected initialize")
        begun = begun or method == "initialize"
        if how == "mute" and method == "server/discover":
            continue
        if how == "modern" and answers_modern(method, number, message):
            continue
        if method == "initialize" and how == "refuses":
            say(id=number, error={"code": -32603, "message": "no licence"})
        elif method == "initialize" and how == "odd":
            say(id=number, result={"capabilities": []})
        elif method == "initialize":
            version = message["params"]["protocolVersion"]
            offers = {"tools": {"listChanged": True}, "logging": {}, "resources": {"subscribe": True}}
            say(
                id=number,
                result={
                    "protocolVersion": version,
                    "capabilities": offers,
                    "serverInfo": {"name": "lines", "version": "1"},
                },
            )
        elif method == "tools/list":
            say(id=number, result={"tools": [{"name": "echo", "inputSchema": {"type": "object"}}]})
        elif method == "tools/call":
            call(number, message["params"])
        elif method == "ping":
            say(id=number, result={})
        elif method == "notifications/cancelled":
            cancelled.append(message["params"]["requestId"])
        elif method == "test/cancelled":
            say(id=number, result={"cancelled": cancelled})
        elif method is None and number in asked:
            say(
                id=asked.pop(number), result=text(json.dumps(message.get("result") or message.get("error")))
            )
        elif number is not None:
            say(id=number, error={"code": -32601, "message": "Method not found"})
    while how == "deaf" or how.startswith("trap:"):
        time.sleep(1)


if __name__ == "__main__":
    if sys.argv[1:] == ["deaf-child"]:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        time.sleep(3600)
    main(*sys.argv[1:] or [""])
