"""The pod of `helm test`, and the proxy of deploy/compose.yaml, against real nodes."""

import os
import re
import subprocess

import pytest
import yaml

from chart import HERE, ROOT, hallway, objects, of_kind
from node import BINARY, SECRET, Node, eventually, free_port, gateway, get, listens, process, redis
from test_image import tool

PRELOAD = HERE / "websocket.cjs"


def connect(address, **settings):
    """Runs the script of the test pod as its container would."""
    (pod,) = [each for each in of_kind(objects("default"), "Pod")]
    container = pod["spec"]["containers"][0]
    assert container["command"] == ["node", "/test/connect.mjs"]
    given = {each["name"]: each.get("value", SECRET) for each in container["env"]}
    environment = given | {"TEST_ADDRESS": address, "PATH": os.environ["PATH"]} | settings
    script = ROOT / "helm/hallway/files/connect.mjs"
    return subprocess.run(["node", "--require", PRELOAD, script], env=environment, capture_output=True, text=True)


@pytest.fixture(scope="module")
def node():
    with gateway() as running:
        yield running


def test_it_connects_and_joins(node):
    done = connect(node.main)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "joined product:helm-test, 1 in it" in done.stdout


def test_it_joins_with_a_token_that_it_is_given(node):
    token = subprocess.run(
        [BINARY, "token", "--sub", "u1"],
        env={"HALLWAY_AUTH__HS256_SECRET": SECRET}, capture_output=True, text=True, check=True,
    ).stdout.strip()
    done = connect(node.main, TEST_TOKEN=token, TEST_SECRET="", TEST_ROOM="user:u1")
    assert done.returncode == 0 and "joined user:u1" in done.stdout, done.stdout


def test_it_fails_when_the_secret_is_another(node):
    done = connect(node.main, TEST_SECRET="another-secret-of-more-than-32-bytes-x")
    assert done.returncode == 1 and "refused the token" in done.stdout, done.stdout


def test_it_fails_when_the_room_is_closed_to_it(node):
    done = connect(node.main, TEST_ROOM="user:somebody-else")
    assert done.returncode == 1 and "forbidden" in done.stdout, done.stdout


def test_it_fails_when_nobody_listens():
    done = connect(f"127.0.0.1:{free_port()}")
    assert done.returncode == 1 and "is a node ready?" in done.stdout, done.stdout


def test_without_a_token_it_only_sees_that_a_bad_one_is_refused(node):
    done = connect(node.main, TEST_SECRET="")
    assert done.returncode == 0 and "a bad token is refused" in done.stdout, done.stdout


def test_it_signs_for_the_issuer_and_audience_of_the_configuration():
    settings = {"HALLWAY_AUTH__ISSUER": "https://id.example.com", "HALLWAY_AUTH__AUDIENCE": "hallway"}
    (pod,) = of_kind(objects("fleet"), "Pod")
    given = {each["name"]: each.get("value") for each in pod["spec"]["containers"][0]["env"]}
    with gateway(**settings) as strict:
        assert connect(strict.main).returncode == 1
        done = connect(strict.main, TEST_ISSUER=given["TEST_ISSUER"], TEST_AUDIENCE=given["TEST_AUDIENCE"])
    assert done.returncode == 0, done.stdout


def test_the_proxy_sends_clients_to_the_nodes_that_are_there(tmp_path):
    port = free_port()
    with redis() as url, gateway(HALLWAY_REDIS__URL=url) as first, gateway(HALLWAY_REDIS__URL=url) as second:
        environment = {"NODES": f"{first.main} {second.main}", "PROXY_PORT": str(port), "HOME": str(tmp_path)}
        command = [tool("caddy"), "run", "--adapter", "caddyfile", "--config", ROOT / "deploy/Caddyfile"]
        with process(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL):
            eventually("the proxy listens", lambda: listens(port))
            for _ in range(4):
                done = connect(f"127.0.0.1:{port}")
                assert done.returncode == 0, done.stdout
            assert get(f"http://127.0.0.1:{port}/v1/rooms/order:o1")[0] == 404, "/v1 is for services"
            first.process.terminate()
            assert first.process.wait(20) == 0
            done = connect(f"127.0.0.1:{port}")
            assert done.returncode == 0, done.stdout


def test_the_drain_of_a_node_fits_into_its_grace():
    """The values' defaults are the gateway's own, so that nothing is said twice with two numbers."""
    example = (ROOT / "hallway.example.toml").read_text()
    variables = {each["name"]: each.get("value") for each in hallway(objects("default"))["env"]}
    assert f'# drain = "{variables["HALLWAY_SHUTDOWN__DRAIN"]}"' in example
    assert f'# reconnect_spread = "{variables["HALLWAY_SHUTDOWN__RECONNECT_SPREAD"]}"' in example


def test_compose_waits_for_the_drain_of_a_node():
    """`shutdown.drain`, and two seconds each for the word to the broker and for the last tasks."""
    example, nodes = (ROOT / "hallway.example.toml").read_text(), yaml.safe_load((ROOT / "deploy/compose.yaml").read_text())
    (drain,) = re.findall(r'^# drain = "(\d+)s"$', example, re.M)
    for name in ("node-1", "node-2"):
        node = nodes["services"][name]
        assert int(node["stop_grace_period"].removesuffix("s")) >= int(drain) + 2 + 2
        assert not [variable for variable in node["environment"] if variable.startswith("HALLWAY_SHUTDOWN")]
