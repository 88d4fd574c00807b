"""Hallway over the stock client: rooms that are joined again with their offsets, each event once and in order.

Needs python-socketio 5 (`pip install "python-socketio[asyncio-client]"`) and nothing else. Copy it into your app; python.md
shows its use.
"""
import asyncio
import inspect
import logging
import random

import socketio

NAMESPACE = "/realtime"
REMEMBERED = 5000  # ids of events, once to twice as many: several pages of 1000 missed events
LONGEST_PAUSE_S = 30
FOR_NOW = ("unavailable", "rate-limited")  # refusals that pass; the others stay


def log(error):
    logging.getLogger("realtime").error("%s", error)


def ignore(*_):
    pass


class Refused(Exception):
    """A command that was refused, with the code."""


class Realtime:
    """One client; made inside a running event loop, connects at once.

    `token` is a function, plain or async, that is asked before every connect. `offsets` are the rooms to be in from the
    start, as the property gave them. Handlers and callbacks are plain or async functions.
    """

    def __init__(self, url, token, offsets=None, on_gap=ignore, on_error=log, on_kicked=ignore, on_state=ignore):
        self._url, self._token, self._offsets = url.rstrip("/"), token, dict(offsets or {})
        self._on_gap, self._on_error, self._on_kicked, self._on_state = on_gap, on_error, on_kicked, on_state
        self._handlers, self._seen, self._seen_before = {}, set(), set()
        self._waiting, self._pause, self._tries, self._tasks = set(), None, 0, set()
        self._shown = self._refusal = self._runner = None
        # Its own reconnecting gives the gateway one second to answer, so this class does that.
        self._socket = socketio.AsyncClient(reconnection=False)
        for event, handler in (("connect", self._connected), ("disconnect", self._disconnected),
                               ("connect_error", self._failed), ("*", self._event)):
            self._socket.on(event, handler, namespace=NAMESPACE)
        self.connect()

    @property
    def offsets(self):
        """The rooms, each with the last offset seen or None. Kept on disk, they make a restart lose nothing."""
        return dict(self._offsets)

    def join(self, room, after=None):
        """Joins a room, with `after` from that offset on. A room that one is in stays as it is."""
        if room not in self._offsets or after:
            self._offsets[room] = after
            self._join([room])

    def leave(self, room):
        if room in self._offsets:
            del self._offsets[room]
            self._emit("leave_room", {"room": room}, ignore)

    def on(self, kind, handler):
        """Calls `handler(event)` for every event of a type; returns a function that ends it."""
        entry = [handler]
        self._handlers[kind] = [*self._handlers.get(kind, ()), entry]

        def off():
            self._handlers[kind] = [other for other in self._handlers[kind] if other is not entry]
        return off

    async def missed(self, room, since):
        """What happened in a room since a time (epoch ms) or after an offset: events, offset, complete, hasMore."""
        return await self.command("get_missed_events", {"room": room, "after" if isinstance(since, str) else "since": since})

    async def command(self, name, argument):
        """Any command: the data of its reply, or Refused."""
        reply = await self._socket.call(name, argument, namespace=NAMESPACE, timeout=LONGEST_PAUSE_S)
        if not reply["ok"]:
            raise Refused(f"{name}: {reply['error']}")
        return reply.get("data")

    def connect(self):
        """Comes back after a kick."""
        self._set("connecting")
        if not self._runner or self._runner.done():
            self._runner = asyncio.ensure_future(self._run())

    async def close(self):
        """Ends it for good: nothing is called any more."""
        self._set("closed")
        if self._pause:
            self._pause.cancel()
        await self._socket.disconnect()
        for task in (self._runner, *self._tasks):
            if task is not asyncio.current_task():
                task.cancel()

    async def _run(self):
        while True:
            self._refusal = None
            try:
                await self._socket.connect(self._url, auth=self._authenticate, transports=["websocket"],
                                           namespaces=[NAMESPACE], wait_timeout=LONGEST_PAUSE_S)
                await self._socket.eio.wait()
            except Exception as error:  # of the client, of the network or of the URL: all are told, and tried again
                if self.state != "closed":
                    self._tell(self._on_error, ConnectionError(f"cannot connect: {self._refusal or root(error)}"))
            if self.state in ("kicked", "closed"):
                return
            if self.state == "connected":
                self._set("reconnecting")
            await asyncio.sleep(self._next_pause())

    async def _authenticate(self):
        try:
            self._shown = await result(self._token())
        except Exception as error:
            self._tell(self._on_error, error)
            self._shown = ""
        return {"token": self._shown}

    def _connected(self):
        self._tries = 0
        self._waiting.clear()
        self._set("connected")
        self._join(list(self._offsets))

    def _disconnected(self, reason):
        if self._pause:
            self._pause.cancel()
        if self.state == "closed":
            return
        self._set("kicked" if reason == self._socket.reason.SERVER_DISCONNECT else "reconnecting")
        if self.state == "kicked":
            self._tell(self._on_kicked)

    def _failed(self, data):
        self._refusal = data.get("message") if isinstance(data, dict) else None

    def _emit(self, name, argument, callback):
        if self.state == "connected":
            self._spawn(self._socket.emit(name, argument, namespace=NAMESPACE, callback=callback))

    def _join(self, rooms):
        asked = [{"room": room, **({"after": self._offsets[room]} if self._offsets[room] else {})} for room in rooms]
        if asked:  # a callback: behind an `await` the first live events may already have come
            self._emit("join_rooms", {"rooms": asked}, lambda reply: self._joined(rooms, reply))

    def _joined(self, rooms, reply):
        if reply.get("error") == "too-many-rooms" and len(rooms) > 1:
            self._join(rooms[:len(rooms) // 2])
            return self._join(rooms[len(rooms) // 2:])
        data = reply.get("data") or {"rooms": [{"room": room, "error": reply["error"]} for room in rooms], "events": []}
        for one in data["rooms"]:
            if one.get("complete") is False:
                self._tell(self._on_gap, one["room"])
        for event in data["events"]:
            self._take(event)
        for one in data["rooms"]:
            if one["room"] not in self._offsets:  # a handler has left it
                continue
            if "error" not in one:
                self._offsets[one["room"]] = one["offset"]
            elif one["error"] in FOR_NOW:
                self._waiting.add(one["room"])
            else:
                self._refused(one["room"], one["error"])
        if not self._waiting:
            self._tries = 0
        elif not self._pause or self._pause.cancelled():
            self._pause = asyncio.get_running_loop().call_later(self._next_pause(), self._join_waiting)

    def _join_waiting(self):
        rooms, self._pause = [room for room in self._waiting if room in self._offsets], None
        self._waiting.clear()
        self._join(rooms)

    def _refused(self, room, error):
        del self._offsets[room]
        if error != "history-disabled":
            return self._tell(self._on_error, Refused(f"{room}: {error}"))
        self._tell(self._on_gap, room)  # nothing is kept of this room, so there is no offset to go on from
        self.join(room)

    def _event(self, _, message):
        if isinstance(message, dict) and "event" in message:
            self._take(message["event"])

    def _take(self, event):
        if self.state == "closed":
            return
        if event["id"] not in self._seen and event["id"] not in self._seen_before:
            self._seen.add(event["id"])
            if len(self._seen) == REMEMBERED:
                self._seen_before, self._seen = self._seen, set()
            for handler, in self._handlers.get(event["type"], ()):
                self._tell(handler, event)
        meta = event["meta"]
        for room, offset in meta.get("offsets", {meta.get("room"): meta.get("offset")}).items():
            if offset and room in self._offsets:
                self._offsets[room] = offset
        if event["type"] == "room.revoked":
            self._offsets.pop(event["payload"]["room"], None)
        if event["type"] == "auth.expiring":
            self._tell(self._refresh)

    async def _refresh(self):
        """Shows a newer token, if there is one; else the socket is closed when this one expires, and comes back."""
        token = await result(self._token())
        if token != self._shown:
            self._shown = token
            await self.command("refresh_token", {"token": token})

    def _next_pause(self):
        self._tries += 1
        return min(LONGEST_PAUSE_S, 2 ** min(self._tries - 1, 9)) * random.uniform(0.5, 1)

    def _set(self, state):
        self.state = state
        self._tell(self._on_state, state)

    def _tell(self, function, *args):
        """Calls a function of the app. What it throws, at once or later, is told and harms nothing else."""
        try:
            answer = function(*args)
        except Exception as error:
            return (log if function == self._on_error else self._on_error)(error)
        if inspect.isawaitable(answer):
            self._spawn(answer)

    def _spawn(self, work):
        async def run():
            try:
                await work
            except Exception as error:
                if self.state != "closed":
                    self._tell(self._on_error, error)
        task = asyncio.ensure_future(run())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


async def result(answer):
    return await answer if inspect.isawaitable(answer) else answer


def root(error):
    """The reason at the bottom of an error."""
    while error.__cause__ or error.__context__:
        error = error.__cause__ or error.__context__
    return f"{type(error).__name__}: {error}"
