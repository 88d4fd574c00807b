"""A Redis and gateways as processes of their own, on free ports."""

import contextlib
import os
import pathlib
import signal
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request

from chart import ROOT

BINARY = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "debug/hallway"
SECRET = "a-secret-for-tests-of-more-than-32-bytes"
API_KEY = "an-api-key-for-tests-of-more-than-32-bytes"
# Longer than anything that works needs, on a busy machine.
PATIENCE_S = 20


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def eventually(what, probe, patience_s=PATIENCE_S):
    """Waits until `probe` gives something true, and gives that."""
    end = time.monotonic() + patience_s
    while True:
        if found := probe():
            return found
        assert time.monotonic() < end, f"not within {patience_s} s: {what}"
        time.sleep(0.05)


def get(url):
    """Status and text; status 0 while nobody answers."""
    try:
        with urllib.request.urlopen(url, timeout=5) as reply:
            return reply.status, reply.read().decode()
    except urllib.error.HTTPError as refused:
        return refused.code, refused.read().decode()
    except OSError:
        return 0, ""


@contextlib.contextmanager
def process(command, **options):
    """A process that ends with the block."""
    running = subprocess.Popen(command, **options)
    try:
        yield running
    finally:
        if running.poll() is None:
            running.send_signal(signal.SIGTERM)
        try:
            running.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            running.kill()
            running.wait()


@contextlib.contextmanager
def redis():
    """The URL of a Redis of one's own."""
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        command = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", folder]
        with process(command, stdout=subprocess.DEVNULL):
            eventually("redis listens", lambda: listens(port))
            yield f"redis://127.0.0.1:{port}"


def listens(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


class Node:
    """Where a gateway listens."""

    def __init__(self):
        self.main, self.admin = f"127.0.0.1:{free_port()}", f"127.0.0.1:{free_port()}"

    def environment(self, **settings):
        fixed = {
            "HALLWAY_SERVER__LISTEN": self.main,
            "HALLWAY_ADMIN__LISTEN": self.admin,
            "HALLWAY_AUTH__HS256_SECRET": SECRET,
            "HALLWAY_API__KEY": API_KEY,
        }
        return fixed | settings

    def readyz(self):
        return get(f"http://{self.admin}/readyz")[0]

    def ready(self):
        eventually("the gateway is ready", lambda: self.readyz() == 200)


@contextlib.contextmanager
def gateway(**settings):
    """A gateway that is ready."""
    assert BINARY.exists(), f"{BINARY} is missing: cargo build"
    node = Node()
    with process([BINARY, "serve"], env=node.environment(**settings), stderr=subprocess.DEVNULL) as running:
        node.process = running
        node.ready()
        yield node
