"""What `helm install` prints at its end: it names what is there, warns of what is open, and its token is let in."""

import re
import shlex
import subprocess

import pytest

from chart import CASES, NAMESPACE, flags, notes, objects, of_kind
from node import BINARY, SECRET, gateway
from test_connect import connect

PUBLISHED = "publishes /v1 too, where services publish and revoke"


@pytest.mark.parametrize("case", CASES)
def test_the_notes_name_objects_that_exist(case):
    said = notes(case)
    kinds = {"svc": "Service", "deploy": "Deployment"}
    named = set(re.findall(r"(svc|deploy)/([-a-z0-9]+)", said))
    there = {(each["kind"], each["metadata"]["name"]) for each in objects(case)}
    assert named and {(kinds[kind], name) for kind, name in named} <= there, said
    hosts = re.findall(r"curl -s http://([-a-z0-9]+)\.realtime:", said)
    assert {("Service", host) for host in hosts} <= there, said
    assert f"-n {NAMESPACE}" in said and "%!" not in said and "\n\n\n" not in said


def test_the_token_of_the_notes_is_one_that_issuer_and_audience_let_in(tmp_path):
    """The configuration is that of the fleet, where both are asked for."""
    (words,) = re.findall(r"-- (hallway token .*)$", notes("fleet"), re.M)
    (config,) = [each["data"]["hallway.toml"] for each in of_kind(objects("fleet"), "ConfigMap") if "hallway.toml" in each["data"]]
    (tmp_path / "hallway.toml").write_text(config)
    command = shlex.split(words.replace("/etc/hallway", str(tmp_path)))
    environment = {"HALLWAY_AUTH__HS256_SECRET": SECRET}
    done = subprocess.run([BINARY, *command[1:]], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    with gateway(HALLWAY_AUTH__ISSUER="https://id.example.com", HALLWAY_AUTH__AUDIENCE="hallway") as strict:
        let_in = connect(strict.main, TEST_TOKEN=done.stdout.strip(), TEST_SECRET="")
    assert let_in.returncode == 0, let_in.stdout


def test_no_token_is_promised_where_nothing_can_sign_one():
    assert ["hallway token" in notes(case) for case in ("gateway", "openshift", "trust", "default")] == [False, True, True, True]


@pytest.mark.parametrize(
    ("case", "settings", "warned"),
    [
        ("trial", ["service.type=LoadBalancer"], "the LoadBalancer "),
        ("trial", ["service.type=NodePort"], "the NodePort "),
        ("trial", ["service.type=LoadBalancer", "api.ownListener=true"], None),
        ("default", ["service.type=LoadBalancer"], None),
        ("trial", ["ingress.enabled=true", "ingress.hosts={a.b}", "ingress.paths={/}"], "ingress.paths (/) "),
        ("trial", ["ingress.enabled=true", "ingress.hosts={a.b}", "ingress.paths={/v1/publish}"], "ingress.paths (/v1/publish) "),
        ("trial", ["ingress.enabled=true", "ingress.hosts={a.b}"], None),
        ("trial", ["httpRoute.enabled=true", "httpRoute.parentRefs[0].name=g", "httpRoute.paths={/v1}"], "httpRoute.paths (/v1) "),
        ("trial", ["ingress.paths={/}"], None),
        ("argocd", ["service.type=LoadBalancer"], "the LoadBalancer "),
        ("keda", [], None),
    ],
)
def test_the_notes_warn_where_v1_is_published(case, settings, warned):
    said = notes(case, *flags(*settings))
    assert (warned + PUBLISHED if warned else PUBLISHED) in said if warned else PUBLISHED not in said, said


def test_the_notes_warn_where_no_redis_can_be_seen():
    warning = "WARNING: nothing in sight gives the nodes a Redis to share"
    assert [warning in notes(case) for case in ("argocd", "openshift", "keda", "fleet", "default")] == [True, False, False, False, False]


def test_a_load_balancer_is_where_clients_connect():
    assert "kubectl -n realtime get svc/hallway" in notes("keda") and "port 443" in notes("keda")
