"""What docs/protocol.md says is on the wire is on the wire of a real node."""

import contextlib
import json
import re
import subprocess
import urllib.request

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from chart import ROOT
from node import API_KEY, BINARY, PATIENCE_S, SECRET, gateway

DOCUMENT = (ROOT / "docs/protocol.md").read_text()
# What a node of its own is to be configured with, if anything, and the lines.
TRANSCRIPTS = re.findall(r"^```wire(?: (\S+))?\n(.*?)^```$", DOCUMENT, re.M | re.S)
CLOSE = (ROOT / "rooms/src/close.rs").read_text()


@pytest.fixture(scope="module")
def node():
    with gateway() as running:
        yield running


def signed(sub, *more):
    command = [BINARY, "token", "--sub", sub, *more]
    done = subprocess.run(command, env={"HALLWAY_AUTH__HS256_SECRET": SECRET}, capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.fixture(scope="module")
def names():
    """What stands behind the names that no frame has said yet."""
    return {
        "token": signed("u1"),
        "brief": signed("u1", "--role", "admin", "--ttl", "50s"),
        "stranger": signed("stranger"),
        "long": "x" * 2048,
    }


def ask(node, route, body):
    request = urllib.request.Request(f"http://{node.main}/v1/{route}", body.encode(), {"Authorization": f"Bearer {API_KEY}"})
    with urllib.request.urlopen(request, timeout=10) as reply:
        assert reply.status == 200


def publish(node, room, event):
    ask(node, "publish", f'{{"room":{json.dumps(room)},{event[1:]}')


def open_transport(node):
    return connect(f"ws://{node.main}/socket.io/?EIO=4&transport=websocket", compression=None)


def receive(client):
    """The next frame but pings, which are answered."""
    while (frame := client.recv(timeout=PATIENCE_S)) == "2":
        # A transport that has ended takes no answer, and what came before its end is still to be read.
        with contextlib.suppress(ConnectionClosed):
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


def end(client, status):
    """Waits until the server has closed the transport, with a WebSocket status if the document names one."""
    try:
        while (frame := receive(client)) == "1":
            pass
    except ConnectionClosed as closed:
        told = str(closed.rcvd.code) if closed.rcvd else ""
        assert told == status, closed
    else:
        pytest.fail(f"the document says that the transport ends, and the node sent {frame}")


def play(node, lines, known):
    client = open_transport(node)
    for line in lines.splitlines():
        who, _, frame = line.partition(" ")
        if who == "C":
            client.send(filled(frame, known))
        elif who == "S":
            match(frame, receive(client), known)
        elif who in ("P", "A"):
            where, _, body = frame.partition(" ")
            (publish if who == "P" else ask)(node, where, body)
        elif who == "E":
            end(client, frame)
        elif who == "X":
            client.close()
            client = open_transport(node)
        else:
            pytest.fail(f"who says this? {line}")
    client.close()


@pytest.mark.parametrize(("setting", "lines"), TRANSCRIPTS)
def test_a_transcript_is_true(node, names, setting, lines):
    if not setting:
        return play(node, lines, dict(names))
    key, _, value = setting.partition("=")
    with gateway(**{"HALLWAY_" + key.replace(".", "__").upper(): value}) as own:
        play(own, lines, dict(names))


def test_there_are_transcripts():
    assert len(TRANSCRIPTS) >= 12


def table(heading):
    """The cells of each row of the table with that heading."""
    rows = DOCUMENT.split(heading)[1].split("\n\n")[0].splitlines()[2:]
    return [[cell.strip() for cell in row.split("|")[1:-1]] for row in rows]


def refusal(node, version=4, **headers):
    """Status, code and Retry-After of a handshake that is refused."""
    address = f"ws://{node.main}/socket.io/?EIO={version}&transport=websocket"
    try:
        with connect(address, compression=None, additional_headers=headers) as client:
            pytest.fail(f"it is let in: {client.recv()}")
    except InvalidStatus as refused:
        response = refused.response
        error = json.loads(response.body).get("error", {})
        return str(response.status_code), error.get("code", ""), response.headers.get("Retry-After")


def test_every_refusal_of_a_handshake_is_in_the_table():
    found = []
    with gateway(HALLWAY_SERVER__ORIGINS="https://app.example.com", HALLWAY_LIMITS__CONNECTIONS_PER_IP="1") as node:
        found.append(refusal(node, version=3))
        found.append(refusal(node, Origin="https://elsewhere.example.com"))
        found.append(refusal(node, **{"Sec-WebSocket-Protocol": "one,,two"}))
        with open_transport(node):
            found.append(refusal(node))
    with gateway(HALLWAY_LIMITS__CONNECTIONS="1") as node, open_transport(node):
        found.append(refusal(node))
    for limit in ("SECOND", "IP"):
        with gateway(**{f"HALLWAY_LIMITS__HANDSHAKES_PER_{limit}": "1"}) as node, open_transport(node):
            found.append(refusal(node))
    rows = {(status, code.strip("`")) for status, code, _ in table("| status | code | why, and what to do |")}
    assert {(status, code) for status, code, _ in found} == rows - {("503", "")}
    for status, _, after in found:
        assert (after in list("12345")) == (status in ("429", "503")), found


def test_every_reason_to_refuse_a_connect_is_in_the_table():
    """And every one of them is played."""
    played = re.findall(r'^S 44/.*\{"message":"([^"]+)"\}$', DOCUMENT, re.M)
    assert {cells[0].strip("`") for cells in table("| message of `44` | what to do |")} == set(played)


def test_every_notice_is_in_the_table():
    sources = [path.read_text() for path in (ROOT / "src").rglob("*.rs")]
    sent = {name for source in sources for name in re.findall(r'\.send_notice\("([a-z.]+)"', source)}
    assert sent == {cells[0].strip("`") for cells in table("| notice | payload | when |")}


def codes(section):
    """The codes of an enum's table in rooms/src/close.rs."""
    table = CLOSE.split(f"impl {section} {{")[1].split("\n}\n")[0]
    return set(re.findall(r'=> "([a-z-]+)"', table))


def test_every_reason_of_a_close_is_in_the_table():
    listed = {code for cells in table("| reason | what happened |") for code in re.findall(r"`([a-z-]+)`", cells[0])}
    assert listed == codes("Close") - {"kicked"}


def test_every_error_in_the_table_is_one():
    listed = {code for cells in table("| error | try again? |") for code in re.findall(r"`([a-z-]+)`", cells[0])}
    assert listed and listed <= codes("Refusal")
