"""An app on docs/clients/realtime.py that says on stdout what it is told, and does what stdin says; a JSON map a line each."""

import asyncio
import json
import sys
from pathlib import Path

from realtime import Realtime

CONFIG = json.loads(sys.argv[1])


def say(**line):
    print(json.dumps(line), flush=True)


def token():
    found = Path(CONFIG["tokens"]).read_text()
    say(asked="token")
    if not found:
        raise ValueError("no token to be had")
    return found


async def fails(event):
    raise ValueError(f"rejected at {event['id']}")


def handle(event):
    say(event=event["id"])
    payload = event["payload"] if isinstance(event["payload"], dict) else {}
    if payload.get("throws"):
        raise ValueError(f"thrown at {event['id']}")
    if payload.get("rejects"):
        return fails(event)


async def told(answer):
    try:
        say(data=await answer)
    except Exception as error:
        say(refused=str(error))


async def main():
    realtime = Realtime(
        CONFIG["url"],
        token,
        offsets=CONFIG["offsets"],
        on_gap=lambda room: say(gap=room),
        on_error=lambda error: say(error=str(error)),
        on_kicked=lambda: say(kicked=True),
        on_state=lambda state: say(state=state),
    )
    for kind in CONFIG["types"]:
        realtime.on(kind, handle)
    acts = {
        "join": lambda act: realtime.join(act["room"]),
        "leave": lambda act: realtime.leave(act["room"]),
        "missed": lambda act: told(realtime.missed(act["room"], act["since"])),
        "offsets": lambda _: say(offsets=realtime.offsets),
        "connect": lambda _: realtime.connect(),
        "close": lambda _: realtime.close(),
    }
    lines = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    async for line in lines:
        act = json.loads(line)
        done = acts[act["do"]](act)
        if asyncio.iscoroutine(done):
            await done
        say(did=act["do"])


asyncio.run(main())
