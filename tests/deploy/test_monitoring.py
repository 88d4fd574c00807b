"""Alerts and dashboard speak of metrics that exist, and a real Prometheus gets them from two real nodes."""

import contextlib
import itertools
import json
import re
import subprocess
import urllib.parse
import urllib.request

import pytest
import yaml

from chart import ROOT, objects, only
from node import API_KEY, eventually, free_port, gateway, get, process, redis

ALERTS_TEXT = (ROOT / "deploy/prometheus/alerts.yaml").read_text()
ALERTS = yaml.safe_load(ALERTS_TEXT)
RULES = ALERTS["groups"][0]["rules"]
DASHBOARD = json.loads((ROOT / "deploy/grafana/dashboard.json").read_text())
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
SOURCE = (ROOT / "src/metrics.rs").read_text()
KINDS = {name: kind for kind, name in re.findall(r'= (Counter|Gauge|Histogram)\(\s*"(\w+)"', SOURCE)}
KNOWN = {name for name in KINDS if name.startswith("hallway_")}
HISTOGRAMS = {name for name, kind in KINDS.items() if kind == "Histogram"}


def queries():
    for rule in RULES:
        yield f"alert {rule['alert']}", rule["expr"]
    for panel in PANELS:
        for target in panel["targets"]:
            yield f"panel {panel['title']}", target["expr"]


def metrics_of(expression):
    return set(re.findall(r"\bhallway_\w+", expression))


def test_every_metric_that_is_asked_for_exists():
    exported = (KNOWN - HISTOGRAMS) | {f"{name}_{part}" for name in HISTOGRAMS for part in ("bucket", "sum", "count")}
    unknown = {(where, metric) for where, expression in queries() for metric in metrics_of(expression) - exported}
    assert unknown == set()


def test_every_label_that_an_alert_looks_for_is_one():
    code = "".join(path.read_text() for folder in ("src", "rooms/src") for path in (ROOT / folder).rglob("*.rs"))
    for rule in RULES:
        for label, values in re.findall(r'(\w+)[!=]~?"([^"]*)"', rule["expr"]):
            unknown = [value for value in values.split("|") if label != "le" and f'"{value}"' not in code]
            assert unknown == [], f"{rule['alert']} waits for a {label} that no code gives"


def test_every_metric_is_on_the_dashboard():
    shown = {metric for panel in PANELS for target in panel["targets"] for metric in metrics_of(target["expr"])}
    shown |= {re.sub(r"_(bucket|sum|count)$", "", metric) for metric in shown}
    assert len(KNOWN) > 50 and KNOWN - shown == set(), "src/metrics.rs names metrics that nobody would see"


def test_the_dashboard_is_in_order():
    rows = [panel["title"] for panel in DASHBOARD["panels"] if panel["type"] == "row"]
    assert len(set(rows)) == len(rows)
    for panel in PANELS:
        assert panel["fieldConfig"]["defaults"]["unit"], panel["title"]
        assert all(target["legendFormat"] for target in panel["targets"]), panel["title"]
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])
    assert all(panel["description"].endswith(".") for panel in PANELS)
    cells = set()
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        mine = {(x, y) for x in range(place["x"], place["x"] + place["w"]) for y in range(place["y"], place["y"] + place["h"])}
        assert not mine & cells and place["x"] + place["w"] <= 24, panel["title"]
        cells |= mine


def test_every_alert_is_complete_and_has_its_section_in_the_guide():
    headings = re.findall(r"^### (Hallway\w+)$", (ROOT / "docs/operating.md").read_text(), re.M)
    assert headings == [rule["alert"] for rule in RULES], "one section per alert, in the order of the rules"
    for rule in RULES:
        assert rule["labels"]["severity"] in ("critical", "warning")
        assert set(rule["annotations"]) == {"summary", "description", "runbook_url"}
        assert rule["annotations"]["runbook_url"] == f"docs/operating.md#{rule['alert'].lower()}"


def thresholds(expression):
    """The numbers that have a name, by their names."""
    return {name: number for number, name in re.findall(r"([0-9.]+) # (\w+)$", expression, re.M)}


def test_every_number_that_an_alert_compares_with_has_a_name_of_its_own():
    names = [name for rule in RULES for name in thresholds(rule["expr"])]
    assert len(names) > 20 and len(set(names)) == len(names)
    for rule in RULES:
        nameless = re.sub(r"[0-9.]+ # \w+$", "", rule["expr"], flags=re.M)
        compared = re.findall(r"(?:[<>]=?|clamp_min\([^#]*,)\s*([0-9.]+)", nameless)
        assert set(compared) <= {"0"}, f"{rule['alert']} compares with a number that nobody can set"


def test_a_threshold_is_replaced_by_its_name_and_nothing_else_is():
    for name in (name for rule in RULES for name in thresholds(rule["expr"])):
        changed = yaml.safe_load(re.sub(rf"[0-9.]+ # {name}\b", f"123 # {name}", ALERTS_TEXT))
        before = {name: number for rule in RULES for name, number in thresholds(rule["expr"]).items()}
        after = {name: number for rule in changed["groups"][0]["rules"] for name, number in thresholds(rule["expr"]).items()}
        assert after == before | {name: "123"}


def test_every_alert_is_tried():
    tests = yaml.safe_load((ROOT / "deploy/prometheus/alerts_test.yaml").read_text())["tests"]
    expected = {sample["labels"] for test in tests for case in test["promql_expr_test"] for sample in case["exp_samples"]}
    assert expected == {f'{{alertname="{rule["alert"]}"}}' for rule in RULES}
    quiet = [test["name"] for test in tests if test["promql_expr_test"][0]["exp_samples"] == []]
    assert quiet == [f"{rule['alert']} is silent at rest" for rule in RULES]


@pytest.mark.parametrize("what", ["check rules deploy/prometheus/alerts.yaml", "test rules deploy/prometheus/alerts_test.yaml"])
def test_promtool_is_content(what):
    done = subprocess.run(["promtool", *what.split()], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0 and "SUCCESS" in done.stdout, done.stdout + done.stderr


def test_the_chart_hands_on_the_same_alerts_and_the_same_dashboard():
    found = objects("fleet")
    assert only(found, "PrometheusRule")["spec"] == ALERTS
    (board,) = [each for each in found if each["kind"] == "ConfigMap" and "hallway.json" in each["data"]]
    assert json.loads(board["data"]["hallway.json"]) == DASHBOARD


class Prometheus:
    def __init__(self, address):
        self.address = address

    def ask(self, path, **parameters):
        status, text = get(f"http://{self.address}/api/v1/{path}?{urllib.parse.urlencode(parameters)}")
        assert status == 200, text
        return json.loads(text)["data"]

    def values(self, expression):
        """The value of each series, by the instance it is of."""
        return {each["metric"].get("instance"): float(each["value"][1]) for each in self.ask("query", query=expression)["result"]}


@contextlib.contextmanager
def prometheus(folder, targets):
    """One that scrapes often, with the alerts loaded."""
    address = f"127.0.0.1:{free_port()}"
    configuration = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": [str(ROOT / "deploy/prometheus/alerts.yaml")],
        "scrape_configs": [{"job_name": "hallway", "static_configs": [{"targets": targets, "labels": {"namespace": "rt"}}]}],
    }
    (folder / "prometheus.yml").write_text(yaml.safe_dump(configuration))
    command = ["prometheus", f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data", f"--web.listen-address={address}"]
    with process(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL):
        eventually("prometheus is ready", lambda: get(f"http://{address}/-/ready")[0] == 200)
        yield Prometheus(address)


def post(node, route, body):
    body = json.dumps(body).encode()
    request = urllib.request.Request(f"http://{node.main}/v1/{route}", body, {"Authorization": f"Bearer {API_KEY}"})
    with urllib.request.urlopen(request, timeout=10) as reply:
        assert reply.status == 200


def test_prometheus_scrapes_two_nodes(tmp_path):
    with redis() as url, gateway(HALLWAY_REDIS__URL=url) as first, gateway(HALLWAY_REDIS__URL=url) as second:
        post(first, "publish", {"room": "order:o1", "type": "order.status_changed", "payload": {"orderId": "o1"}})
        both = {first.admin, second.admin}
        with prometheus(tmp_path, sorted(both)) as server:
            eventually("both are scraped and see each other", lambda: server.values("hallway_nodes") == dict.fromkeys(both, 2.0))
            assert server.values("up") == server.values("hallway_broker_up") == dict.fromkeys(both, 1.0)
            assert server.values("hallway_publish_seconds_count") == {first.admin: 1.0, second.admin: 0.0}
            checks = server.ask("query", query="hallway_check_ready == 1")["result"]
            names = ("broker", "listeners", "keys", "revocations")
            assert {(each["metric"]["instance"], each["metric"]["check"]) for each in checks} == set(itertools.product(both, names))
            canaries = 'hallway_canary_seconds_bucket{le="+Inf"} > 0'
            eventually("canaries come back on both", lambda: set(server.values(canaries)) == both)

            post(first, "revoke", {"sub": "nobody"})
            quick = 'hallway_kick_seconds_bucket{le=~"1|1\\\\.0"}'
            eventually("a kick is counted where its alert looks", lambda: server.values(quick).get(first.admin) == 1.0)

            metadata = server.ask("metadata")
            ours = {name: each for name, each in metadata.items() if name.startswith("hallway_")}
            assert set(ours) <= KNOWN, "a metric that src/metrics.rs does not name"
            assert all(each[0]["help"] for each in ours.values())

            for where, expression in queries():
                plain = expression.replace("$__rate_interval", "1m").replace("$__range", "1h")
                plain = plain.replace("$namespace", ".*").replace("$job", ".*")
                try:
                    server.ask("query", query=plain)
                except AssertionError as refused:
                    pytest.fail(f"{where}: {refused}")
            rules = server.ask("rules")["groups"][0]["rules"]
            assert len(rules) == len(RULES)
            eventually("every alert was evaluated", lambda: all(each["health"] == "ok" for each in server.ask("rules")["groups"][0]["rules"]))
            firing = {each["labels"]["alertname"] for each in server.ask("alerts")["alerts"] if each["state"] == "firing"}
            assert firing == set(), "a fleet at rest wakes nobody"
