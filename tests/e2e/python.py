"""The official Python client (python-socketio 5) against a running gateway on a real Redis.

    E2E_ADDRESS=127.0.0.1:8080 E2E_ADMIN=127.0.0.1:9090 E2E_REDIS=redis://127.0.0.1:6379 E2E_API_KEY=…
    E2E_TOKEN=… (a customer's, sub "u1")  E2E_EXPIRED_TOKEN=…  E2E_FORGED_TOKEN=…   python python.py

Says what it has seen, and ends with 1 and a sentence at the first thing that is wrong.
"""

import asyncio
import json
import os
import sys
import time

import aiohttp
import redis.asyncio as redis
import socketio

PATIENCE_S = 10
LONGEST_S = 90
ENV = {name: os.environ[f"E2E_{name}"] for name in ("ADDRESS", "ADMIN", "REDIS", "API_KEY", "TOKEN", "EXPIRED_TOKEN", "FORGED_TOKEN")}
URL = f"http://{ENV['ADDRESS']}"
RUN = f"py{time.time_ns():x}"
NAMESPACE = "/realtime"


class Wrong(Exception):
    """Something is not as it should be."""


def check(seen, wanted, what):
    if seen != wanted:
        raise Wrong(f"{what} should be {wanted!r}, not {seen!r}")


async def within(awaitable, what):
    try:
        return await asyncio.wait_for(awaitable, PATIENCE_S)
    except asyncio.TimeoutError:
        raise Wrong(f"{what} did not come") from None


class Client:
    """A socket with its events in the order they came."""

    def __init__(self, reconnects=True):
        self.sio = socketio.AsyncClient(reconnection=reconnects, reconnection_delay=0.05, reconnection_delay_max=0.1)
        self.events = asyncio.Queue()
        self.back, self.gone = asyncio.Event(), asyncio.Event()
        self.sio.on("*", self.heard, namespace=NAMESPACE)
        self.sio.on("connect", self.back.set, namespace=NAMESPACE)
        self.sio.on("disconnect", lambda *_: self.gone.set(), namespace=NAMESPACE)

    async def heard(self, name, *args):
        await self.events.put((name, args))

    async def connect(self, auth):
        await self.sio.connect(URL, auth=auth, namespaces=[NAMESPACE], transports=["websocket"], wait_timeout=PATIENCE_S)

    async def call(self, command, argument):
        reply = await within(self.sio.call(command, argument, namespace=NAMESPACE, timeout=PATIENCE_S), f"the reply to {command} {argument!r}")
        check(type(reply), dict, f"the kind of reply to {command} {argument!r}")
        return reply

    async def ok(self, command, argument):
        reply = await self.call(command, argument)
        check(reply["ok"], True, f"ok in the reply to {command} {argument!r}, which is {reply!r},")
        return reply["data"]

    async def refused(self, command, argument, error):
        check(await self.call(command, argument), {"ok": False, "error": error}, f"the reply to {command} {argument!r}")

    async def event(self, kind):
        name, args = await within(self.events.get(), f"an event {kind}")
        check((name, len(args), args[0]["requiresAck"]), (kind, 1, False), "name, count of arguments and requiresAck")
        return args[0]["event"]

    def quiet(self):
        check(self.events.qsize(), 0, "the count of further events")

    async def end(self):
        await self.sio.disconnect()


class Service:
    """A back-end service: what publishes."""

    def __init__(self):
        self.redis = redis.from_url(ENV["REDIS"], decode_responses=True)

    async def fcall(self, rooms, kind, payload):
        keys = [f"hallway:{{{room}}}" for room in rooms]
        event = json.dumps({"type": kind, "payload": payload})
        identity, *placed = await self.redis.fcall("hallway_publish", len(keys), *keys, event)
        return identity, {room: offset for room, offset, _ in placed}

    async def publish(self, room, kind, payload):
        return await self.redis.publish(f"hallway:{{{room}}}", json.dumps({"type": kind, "payload": payload}))

    async def http(self, body):
        headers = {"authorization": f"Bearer {ENV['API_KEY']}"}
        async with aiohttp.ClientSession() as session, session.post(f"{URL}/v1/publish", json=body, headers=headers) as response:
            check(response.status, 200, "the status of POST /v1/publish")
            return await response.json()


async def the_gateway_is_ready(_):
    async with aiohttp.ClientSession() as session, session.get(f"http://{ENV['ADMIN']}/readyz") as response:
        check(response.status, 200, "/readyz")


async def bad_tokens_are_refused(_):
    for auth in (None, {}, {"token": "x"}, {"token": ENV["EXPIRED_TOKEN"]}, {"token": ENV["FORGED_TOKEN"]}):
        client, told = Client(reconnects=False), []
        client.sio.on("connect_error", told.append, namespace=NAMESPACE)
        try:
            await client.connect(auth)
        except socketio.exceptions.ConnectionError:
            check(told, [{"message": "unauthorized"}], f"connect_error for {auth!r}")
        else:
            raise Wrong(f"a client with {auth!r} got in")
        await client.end()


async def events_come_by_every_way_in(service):
    client, room = Client(), f"order:o-{RUN}"
    await client.connect({"token": ENV["TOKEN"]})
    joined = await client.ok("join_room", {"room": room})
    check((joined["room"], joined["roomSize"]), (room, 1), "room and roomSize")

    identity, offsets = await service.fcall([room], "order.status_changed", {"status": "confirmed", "big": 9007199254740993})
    first = await client.event("order.status_changed")
    check((first["id"], first["meta"]), (identity, {"room": room, "offset": offsets[room]}), "id and meta of the FCALL-published event")
    check(first["payload"], {"status": "confirmed", "big": 9007199254740993}, "its payload")

    check(await service.publish(room, "order.viewed", [1, "zwei"]), 1, "how many heard the plain PUBLISH")
    second = await client.event("order.viewed")
    check((second["meta"], second["payload"]), ({"room": room}, [1, "zwei"]), "the plain event")

    answer = await service.http({"room": room, "type": "order.status_changed", "payload": {"status": "ready"}})
    third = await client.event("order.status_changed")
    check((third["id"], third["meta"]["offset"]), (answer["id"], answer["offsets"][room]), "the HTTP-published event")

    missed = await client.ok("get_missed_events", {"room": room, "after": joined["offset"]})
    wanted = {"events": [first, third], "offset": third["meta"]["offset"], "complete": True, "hasMore": False}
    check(missed, wanted, "the missed events")
    await client.end()


async def an_event_of_two_rooms_comes_once_and_nothing_after_leave(service):
    client, rooms = Client(), [f"store:s-{RUN}", f"product:p-{RUN}"]
    await client.connect({"token": ENV["TOKEN"]})
    for room in rooms:
        await client.ok("join_room", {"room": room})
    _, offsets = await service.fcall(rooms, "inventory.stock_updated", {"stock": 18})
    event = await client.event("inventory.stock_updated")
    check(event["meta"], {"room": rooms[0], "offset": offsets[rooms[0]], "offsets": offsets}, "its meta")
    check(await client.ok("leave_room", {"room": rooms[0]}), {"room": rooms[0], "roomSize": 0}, "the reply to leave_room")
    await service.fcall(rooms[:1], "inventory.stock_updated", "left")
    await service.fcall(rooms[1:], "inventory.stock_updated", "kept")
    check((await client.event("inventory.stock_updated"))["payload"], "kept", "the next event")
    client.quiet()
    await client.end()


async def the_longest_numbers_come_and_longer_ones_are_refused(service):
    client, room = Client(), f"order:auth0|{RUN}@example.com"
    await client.connect({"token": ENV["TOKEN"]})
    offset = (await client.ok("join_room", {"room": room}))["offset"]
    longest = [10**100 - 1, 1 - 10**99, {"n": 10**99}]
    for longer in (10**100, -(10**99), [{"n": 10**200}]):
        try:
            await service.fcall([room], "order.counted", longer)
        except redis.ResponseError as error:
            check("invalid-event" in str(error), True, f"whether {error} says why")
        else:
            raise Wrong(f"{longer!r} is taken, and this client cannot read it")
    await service.fcall([room], "order.counted", longest)
    event = await client.event("order.counted")
    check((event["payload"], event["meta"]["room"]), (longest, room), "payload and room")
    check((await client.ok("get_missed_events", {"room": room, "after": offset}))["events"], [event], "the missed events")
    await client.end()


async def bad_input_is_answered(_):
    client, room = Client(), f"order:bad-{RUN}"
    await client.connect({"token": ENV["TOKEN"]})
    for forbidden in ("user:somebody-else", "orders:active", "dashboard:admin"):
        await client.refused("join_room", {"room": forbidden}, "forbidden")
    for argument in (None, 5, "order:1", [], {}, {"room": 5}, {"room": None}, {"room": room, "after": 5}, b"order:1"):
        await client.refused("join_room", argument, "invalid-payload")
    for name in ("", "order", "order:", "Order:1", "order:a b", "nowhere:1", f"order:{'x' * 129}"):
        await client.refused("join_room", {"room": name}, "invalid-room")
    for rest in ({}, {"after": "x"}, {"since": -1}, {"since": "1"}, {"since": 0, "after": "1-0"}, {"since": 0, "limit": 0}):
        await client.refused("get_missed_events", {"room": room, **rest}, "invalid-payload")
    await client.refused("fly_away", {}, "unknown-command")
    await client.end()


async def nothing_is_lost_with_the_transport(service):
    client, room, may_return = Client(), f"order:cut-{RUN}", asyncio.Event()
    may_return.set()

    # The token is given only when the missed events are stored, so that the client is away for certain.
    async def auth():
        await may_return.wait()
        return {"token": ENV["TOKEN"]}

    await client.connect(auth)
    offset = (await client.ok("join_room", {"room": room}))["offset"]
    may_return.clear(), client.gone.clear(), client.back.clear()
    client.sio.eio.ws.get_extra_info("socket").shutdown(2)
    await within(client.gone.wait(), "disconnect")
    stored = [(await service.fcall([room], "order.status_changed", n))[0] for n in (1, 2, 3)]
    may_return.set()
    await within(client.back.wait(), "the reconnect")
    resumed = await client.ok("join_room", {"room": room, "after": offset})
    check([event["id"] for event in resumed["events"]], stored, "the missed events")
    check((resumed["complete"], "hasMore" in resumed), (True, False), "complete, and whether there is more")
    await service.fcall([room], "order.status_changed", 4)
    check((await client.event("order.status_changed"))["payload"], 4, "the live event behind them")
    client.quiet()
    await client.end()


SCENES = (
    the_gateway_is_ready,
    bad_tokens_are_refused,
    events_come_by_every_way_in,
    an_event_of_two_rooms_comes_once_and_nothing_after_leave,
    the_longest_numbers_come_and_longer_ones_are_refused,
    bad_input_is_answered,
    nothing_is_lost_with_the_transport,
)


async def main():
    service = Service()
    for scene in SCENES:
        name = scene.__name__.replace("_", " ")
        try:
            await asyncio.wait_for(scene(service), LONGEST_S)
        except Exception as error:
            sys.exit(f"python.py: {name}: {type(error).__name__}: {error}")
        print(f"ok: {name}", flush=True)
    await service.redis.aclose()


asyncio.run(main())
