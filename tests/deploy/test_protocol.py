"""What docs/protocol.md says is on the wire is on the wire of a real node."""

import json
import re
import subprocess
import urllib.request

import pytest
from websockets.sync.client import connect

from chart import ROOT
from node import API_KEY, BINARY, PATIENCE_S, SECRET, gateway

DOCUMENT = (ROOT / "docs/protocol.md").read_text()
TRANSCRIPTS = re.findall(r"^```wire\n(.*?)^```$", DOCUMENT, re.M | re.S)
CLOSE = (ROOT / "rooms/src/close.rs").read_text()


@pytest.fixture(scope="module")
def node():
    with gateway() as running:
        yield running


@pytest.fixture(scope="module")
def token():
    command = [BINARY, "token", "--sub", "u1"]
    done = subprocess.run(command, env={"HALLWAY_AUTH__HS256_SECRET": SECRET}, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def publish(node, room, event):
    body = f'{{"room":{json.dumps(room)},{event[1:]}'.encode()
    request = urllib.request.Request(f"http://{node.main}/v1/publish", body, {"Authorization": f"Bearer {API_KEY}"})
    with urllib.request.urlopen(request, timeout=10) as reply:
        assert reply.status == 200


def open_transport(node):
    return connect(f"ws://{node.main}/socket.io/?EIO=4&transport=websocket", compression=None)


def receive(client):
    """The next frame but pings, which are answered."""
    while (frame := client.recv(timeout=PATIENCE_S)) == "2":
        client.send("3")
    return frame


def filled(frame, known):
    return re.sub(r"<(\w+)>", lambda name: known[name[1]], frame)


def match(line, frame, known):
    """Holds a frame against a line of the document, and notes what its names stand for."""
    pattern, fresh = "", []
    for part in re.split(r"(…|<\w+>)", line):
        name = part[1:-1]
        if part == "…":
            pattern += ".*?"
        elif re.fullmatch(r"<\w+>", part) and name not in known:
            pattern += f"(?P=n_{name})" if name in fresh else f'(?P<n_{name}>[^"]+)'
            fresh.append(name)
        else:
            pattern += re.escape(filled(part, known))
    found = re.fullmatch(pattern, frame)
    assert found, f"the document says\n  {line}\nand the node sent\n  {frame}"
    known |= {name.removeprefix("n_"): text for name, text in found.groupdict().items()}


@pytest.mark.parametrize("transcript", TRANSCRIPTS)
def test_a_transcript_is_true(node, token, transcript):
    known, client = {"token": token}, open_transport(node)
    for line in transcript.splitlines():
        who, _, frame = line.partition(" ")
        if who == "C":
            client.send(filled(frame, known))
        elif who == "S":
            match(frame, receive(client), known)
        elif who == "P":
            room, _, event = frame.partition(" ")
            publish(node, room, event)
        elif who == "X":
            client.close()
            client = open_transport(node)
        else:
            pytest.fail(f"who says this? {line}")
    client.close()


def test_there_are_transcripts():
    assert len(TRANSCRIPTS) >= 6


def codes(section):
    """The codes of an enum's table in rooms/src/close.rs."""
    table = CLOSE.split(f"impl {section} {{")[1].split("\n}\n")[0]
    return set(re.findall(r'=> "([a-z-]+)"', table))


def test_every_reason_of_a_close_is_in_the_table():
    table = DOCUMENT.split("| reason | what happened |")[1]
    listed = set(re.findall(r"`([a-z-]+)`", "".join(line.split("|")[1] for line in table.splitlines() if line.startswith("| `"))))
    assert listed == codes("Close") - {"kicked"}


def test_every_error_in_the_table_is_one():
    table = DOCUMENT.split("| error | try again? |")[1].split("\n\n")[0]
    assert set(re.findall(r"`([a-z]+(?:-[a-z]+)+|forbidden|unauthorized|unavailable)`", table)) <= codes("Refusal")
