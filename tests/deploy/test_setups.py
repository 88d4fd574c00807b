"""The set-ups of ordinary platform teams: each has its values in helm/hallway/ci, and what matters of it is held here."""

import json
import re
import shutil
import subprocess

import pytest
import yaml

from chart import CHART, HELMS, NAMESPACE, RELEASE, flags, hallway, helm, objects, of_kind, only, template, values
from cluster import cluster
from node import BINARY, Node, get, process

AUTH = "auth.existingSecret=tokens"


def rendered_with(major, *settings):
    """The objects of the chart with nothing but these settings."""
    done = template(major, *flags(*settings))
    assert done.returncode == 0, done.stderr
    return [each for each in yaml.safe_load_all(done.stdout) if each]


def variables(found):
    """What a node finds in its environment: a text, or the Secret and the key in it."""
    values = {}
    for each in hallway(found)["env"]:
        reference = each.get("valueFrom", {}).get("secretKeyRef", {})
        values[each["name"]] = each.get("value") or (reference["name"], reference["key"])
    return values


def mounted(found):
    """The files that are mounted from Secrets: the Secret and the key of each path."""
    volumes = only(found, "Deployment")["spec"]["template"]["spec"]["volumes"]
    secrets = [source["secret"] for volume in volumes if volume["name"] == "secrets" for source in volume["projected"]["sources"]]
    return {item["path"]: (secret["name"], item["key"]) for secret in secrets for item in secret["items"]}


# Redis


@pytest.mark.parametrize(
    "settings",
    [
        ["redis.existingSecret=r"],
        ["redis.url=redis://r"],
        ["config=[redis]\nurl_file = '/vault/redis'"],
        ["extraEnv[0].name=HALLWAY_REDIS__URL_FILE", "extraEnv[0].value=/vault/redis"],
        ["extraEnv[0].name=HALLWAY_REDIS__URL", "extraEnv[0].valueFrom.secretKeyRef.name=r", "extraEnv[0].valueFrom.secretKeyRef.key=k"],
        ["extraEnvFrom[0].secretRef.name=r"],
    ],
)
@pytest.mark.parametrize("major", HELMS)
def test_each_way_to_a_redis_makes_a_fleet(major, settings):
    found = rendered_with(major, AUTH, "replicas=3", "networkPolicy.enabled=true", *settings)
    assert only(found, "Deployment")["spec"]["strategy"]["type"] == "RollingUpdate"
    assert of_kind(found, "PodDisruptionBudget")
    reached = [rule["ports"][0]["port"] for rule in of_kind(found, "NetworkPolicy")[0]["spec"]["egress"]]
    assert reached == [53, 6379]


def test_one_node_whose_redis_is_only_believed_in_is_never_two():
    found = rendered_with(3, AUTH, "extraEnvFrom[0].configMapRef.name=proxies")
    assert only(found, "Deployment")["spec"]["strategy"] == {"type": "Recreate"}


def test_every_secret_may_come_by_variables_of_ones_own():
    """The External Secrets operator makes one Secret with all of them."""
    found = rendered_with(3, "replicas=3", "api.ownListener=true", "extraEnvFrom[0].secretRef.name=all")
    assert hallway(found)["envFrom"] == [{"secretRef": {"name": "all"}}]
    assert not {name for name in variables(found) if "SECRET" in name or "REDIS" in name or "KEY" in name}
    assert rendered_with(3, "extraEnv[0].name=HALLWAY_AUTH__JWKS_URL", "extraEnv[0].value=https://id.example.com/keys")


def test_a_password_alone_stands_beside_the_url():
    found = objects("eks")
    url, password = variables(found)["HALLWAY_REDIS__URL"], variables(found)["HALLWAY_REDIS__PASSWORD"]
    assert (url, password) == (("hallway", "redis-url"), ("elasticache", "password"))
    assert only(found, "Secret")["stringData"] == {"redis-url": "rediss://master.rt.abc123.euc1.cache.amazonaws.com:6379"}
    assert variables(found)["HALLWAY_REDIS__USERNAME"] == "hallway"
    both = rendered_with(3, AUTH, "redis.existingSecret=r", "redis.existingSecretPasswordKey=p")
    assert (variables(both)["HALLWAY_REDIS__URL"], variables(both)["HALLWAY_REDIS__PASSWORD"]) == (("r", "redis-url"), ("r", "p"))


def test_certificates_for_redis_are_files():
    found = objects("operator")
    tls = "hallway-redis-tls"
    assert mounted(found) == {"redis/ca": (tls, "ca.crt"), "redis/cert": (tls, "tls.crt"), "redis/key": (tls, "tls.key")}
    files = {name: value for name, value in variables(found).items() if name.startswith("HALLWAY_REDIS__") and name.endswith("_FILE")}
    assert files == {
        "HALLWAY_REDIS__CA_FILE": "/run/secrets/hallway/redis/ca",
        "HALLWAY_REDIS__CLIENT_CERT_FILE": "/run/secrets/hallway/redis/cert",
        "HALLWAY_REDIS__CLIENT_KEY_FILE": "/run/secrets/hallway/redis/key",
    }
    assert mounted(objects("gke")) == {"redis/ca": ("memorystore-ca", "server-ca.pem")}


@pytest.mark.parametrize(
    ("settings", "port"),
    [
        (["redis.url=redis://r"], 6379),
        (["redis.url=rediss://r:6380/0"], 6380),
        (["redis.url=redis://user:pass@r:7000"], 7000),
        (["redis.url=redis://user:1234@r"], 6379),
        (["redis.url=redis://[fd00::12:6]/1"], 6379),
        (["redis.url=redis://[fd00::12:6]:6390/1"], 6390),
        (["redis.url=redis://r:6380", "networkPolicy.redisPort=16380"], 16380),
        (["redis.existingSecret=r"], 6379),
        (["extraEnv[0].name=HALLWAY_REDIS__URL", "extraEnv[0].value=redis://$(REDIS_HOST):6385"], 6385),
        (["extraEnvFrom[0].secretRef.name=r", "networkPolicy.redisPort=10000"], 10000),
    ],
)
def test_the_network_policy_opens_the_port_of_the_url(settings, port):
    found = rendered_with(3, AUTH, "networkPolicy.enabled=true", *settings)
    assert of_kind(found, "NetworkPolicy")[0]["spec"]["egress"][1]["ports"] == [{"port": port}]


# Who sets the number of nodes


@pytest.mark.parametrize("major", HELMS)
def test_a_fleet_that_keda_scales_keeps_budget_and_spread(major):
    found = rendered_with(major, AUTH, "redis.existingSecret=r", "replicas=null")
    deployment = only(found, "Deployment")["spec"]
    assert "replicas" not in deployment and deployment["strategy"]["rollingUpdate"]["maxUnavailable"] == 0
    assert len(deployment["template"]["spec"]["topologySpreadConstraints"]) == 2
    assert only(found, "PodDisruptionBudget")["spec"]["maxUnavailable"] == 1
    assert only(objects("keda"), "PodDisruptionBudget")["spec"]["minAvailable"] == "50%"
    assert "replicas" not in only(objects("keda"), "Deployment")["spec"]


def replicas(major, running, *settings):
    """What is stated of the number of nodes where a cluster is asked."""
    with cluster(**running) as asked:
        base = flags(AUTH, "redis.existingSecret=r")
        done = template(major, *base, *flags(*settings), *asked, "--show-only", "templates/deployment.yaml")
    assert done.returncode == 0, done.stderr
    return yaml.safe_load(done.stdout)["spec"].get("replicas")


@pytest.mark.parametrize("major", HELMS)
def test_an_autoscaler_is_switched_on_without_a_dip(major):
    """Kubernetes reads `replicas` that is taken away as 1."""
    scaled = "autoscaling.enabled=true", "autoscaling.minReplicas=3"
    assert replicas(major, {"hallway": 7}, *scaled) == 7
    assert replicas(major, {"hallway": 1}, *scaled) == 3
    assert replicas(major, {"hallway": 7}, "replicas=null") == 7
    assert replicas(major, {"hallway": 0}, "replicas=null") == 0, "KEDA has it at rest"
    assert replicas(major, {"another": 7}, *scaled) is None
    assert replicas(major, {"hallway": 7}, "replicas=2") == 2


def test_an_autoscaler_has_the_behaviour_and_the_metrics_that_it_is_given():
    spec = only(objects("eks"), "HorizontalPodAutoscaler")["spec"]
    assert spec["behavior"] == {
        "scaleUp": {"policies": [{"type": "Percent", "value": 50, "periodSeconds": 60}]},
        "scaleDown": {"stabilizationWindowSeconds": 1800, "policies": [{"type": "Pods", "value": 1, "periodSeconds": 300}]},
    }
    assert [each["resource"]["name"] for each in spec["metrics"]] == ["cpu", "memory"]
    alone = rendered_with(
        3, AUTH, "redis.existingSecret=r", "autoscaling.enabled=true", "autoscaling.cpuPercent=0", "autoscaling.behavior=null",
        "autoscaling.extraMetrics[0].type=External",
    )
    assert [each["type"] for each in only(alone, "HorizontalPodAutoscaler")["spec"]["metrics"]] == ["External"]
    assert "behavior" not in only(alone, "HorizontalPodAutoscaler")["spec"]


def test_evictions_are_bounded_as_it_is_asked_for_and_only_where_another_node_is_left():
    def bounds(case, *settings):
        budgets = of_kind(objects(case, *flags(*settings)), "PodDisruptionBudget")
        return [{key: value for key, value in each["spec"].items() if "vailable" in key} for each in budgets]

    assert [bounds(case) for case in ("default", "fleet", "gateway")] == [[], [{"maxUnavailable": 1}], [{"maxUnavailable": 1}]]
    assert (bounds("gke"), bounds("eks")) == ([{"maxUnavailable": "25%"}], [{"minAvailable": 2}])
    assert bounds("fleet", "podDisruptionBudget.enabled=false") == []


def test_a_rollout_is_as_fast_as_it_is_asked_for():
    spec = only(objects("istio"), "Deployment")["spec"]
    assert spec["strategy"] == {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": "25%"}}
    assert spec["minReadySeconds"] == 15
    assert "minReadySeconds" not in only(objects("fleet"), "Deployment")["spec"]


# Pods


def test_probes_can_be_slower():
    container = hallway(objects("istio"))
    startup, readiness = container["startupProbe"], container["readinessProbe"]
    assert startup == {"httpGet": {"path": "/livez", "port": "admin"}, "periodSeconds": 2, "failureThreshold": 90}
    assert readiness["timeoutSeconds"] == 5 and readiness["failureThreshold"] == 3 and readiness["periodSeconds"] == 2
    assert container["livenessProbe"] == hallway(objects("default"))["livenessProbe"]


def test_other_containers_stand_beside_the_node_and_commands_mean_the_node():
    template = only(objects("istio"), "Deployment")["spec"]["template"]
    assert [each["name"] for each in template["spec"]["containers"]] == ["hallway", "log-shipper"]
    assert [each["name"] for each in template["spec"]["initContainers"]] == ["wait"]
    assert template["metadata"]["annotations"]["kubectl.kubernetes.io/default-container"] == "hallway"


def test_a_cluster_gives_pods_a_user_of_its_own():
    found = objects("openshift")
    for spec in [only(found, "Deployment")["spec"]["template"]["spec"], only(found, "Pod")["spec"]]:
        assert spec["securityContext"] == {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
        assert "runAsUser" not in json.dumps(spec)
    egress = [each["spec"]["egress"][0]["ports"] for each in of_kind(found, "NetworkPolicy")]
    assert egress == [[{"port": 5353, "protocol": protocol} for protocol in ("UDP", "TCP")]] * 2
    assert only(found, "Ingress")["spec"]["rules"][0]["http"]["paths"][0]["pathType"] == "ImplementationSpecific"


@pytest.mark.parametrize("nothing", ["null", ""])
def test_a_limit_can_be_left_out(nothing):
    found = rendered_with(3, AUTH, f"resources.limits.cpu={nothing}", f"tests.resources.limits.cpu={nothing}")
    assert hallway(found)["resources"] == {"requests": {"cpu": "250m", "memory": "256Mi"}, "limits": {"memory": "1Gi"}}
    assert set(only(found, "Pod")["spec"]["containers"][0]["resources"]["limits"]) == {"memory"}


def test_annotations_are_where_their_readers_look():
    deployment = only(objects("argocd"), "Deployment")
    wanted = {"argocd.argoproj.io/sync-wave": "2", "reloader.stakater.com/auto": "true"}
    assert deployment["metadata"]["annotations"] == wanted
    assert not wanted.keys() & deployment["spec"]["template"]["metadata"]["annotations"].keys()


@pytest.mark.parametrize(
    ("settings", "image", "test"),
    [
        ([], "hallway:0.1.0", "node:22-alpine"),
        (["image.registry=r.example.com:5000"], "r.example.com:5000/hallway:0.1.0", "node:22-alpine"),
        (["global.imageRegistry=m.example.com/"], "m.example.com/hallway:0.1.0", "m.example.com/node:22-alpine"),
        (["global.imageRegistry=m.example.com", "image.registry=r.example.com"], "m.example.com/hallway:0.1.0", "m.example.com/node:22-alpine"),
        (["global.imageRegistry=m.example.com", "image.repository=r.example.com/a/b", "image.tag=v2"], "r.example.com/a/b:v2", "m.example.com/node:22-alpine"),
        (["global.imageRegistry=m.example.com", "tests.image=localhost/node:22"], "m.example.com/hallway:0.1.0", "localhost/node:22"),
        (["image.registry=r.example.com", "image.digest=sha256:" + "a" * 64], "r.example.com/hallway@sha256:" + "a" * 64, "node:22-alpine"),
    ],
)
def test_images_come_from_the_registry_that_is_named(settings, image, test):
    found = rendered_with(3, AUTH, *settings)
    assert hallway(found)["image"] == image
    assert only(found, "Pod")["spec"]["containers"][0]["image"] == test


def test_pull_secrets_are_named_or_objects_and_each_is_used_once():
    wanted = [{"name": "regcred"}, {"name": "regcred-backup"}]
    found = objects("argocd")
    for spec in [only(found, "Deployment")["spec"]["template"]["spec"], only(found, "Pod")["spec"]]:
        assert spec["imagePullSecrets"] == wanted
    assert only(objects("openshift"), "Pod")["spec"]["imagePullSecrets"] == [{"name": "builder-dockercfg"}]
    assert "imagePullSecrets" not in only(objects("default"), "Pod")["spec"]


def test_the_pod_of_the_test_runs_where_nodes_do():
    node, test = (only(objects("gke"), kind)["spec"] for kind in ("Deployment", "Pod"))
    for key in ("nodeSelector", "tolerations"):
        assert test[key] == node["template"]["spec"][key]
    spec = only(objects("argocd"), "Pod")["spec"]
    assert spec["priorityClassName"] == "realtime"
    assert set(spec["affinity"]) == {"nodeAffinity"}, "what keeps nodes apart would keep it from every machine"
    pod = only(objects("istio"), "Pod")
    assert pod["metadata"]["labels"]["sidecar.istio.io/inject"] == "true"
    annotations = pod["metadata"]["annotations"]
    assert annotations["proxy.istio.io/config"] == '{"terminationDrainDuration": "1s"}', "its own go over the pods'"
    assert annotations["helm.sh/hook"] == "test"
    assert pod["spec"]["containers"][0]["resources"]["limits"] == {"cpu": "1", "memory": "256Mi"}
    assert only(objects("extras"), "Pod")["metadata"]["annotations"]["restarted-at"] == "2026-11-25"


def test_the_pod_of_the_test_reaches_nodes_in_a_closed_namespace():
    found = objects("fleet")
    nodes, test = of_kind(found, "NetworkPolicy")
    assert test["spec"]["podSelector"]["matchLabels"].items() <= only(found, "Pod")["metadata"]["labels"].items()
    to_nodes = {"ports": [{"port": 8080}], "to": [{"podSelector": nodes["spec"]["podSelector"]}]}
    assert test["spec"]["egress"][1:] == [to_nodes] and "ingress" not in test["spec"]
    assert test["spec"]["podSelector"] in [peer.get("podSelector") for peer in nodes["spec"]["ingress"][0]["from"]]
    assert len(of_kind(objects("trust"), "NetworkPolicy")) == 1, "there is no test there"


def test_the_pod_of_the_test_believes_variables_as_nodes_do():
    found = rendered_with(3, AUTH, "config=[auth]\nissuer = 'a'", "extraEnv[0].name=HALLWAY_AUTH__ISSUER", "extraEnv[0].value=b")
    given = {each["name"]: each.get("value") for each in only(found, "Pod")["spec"]["containers"][0]["env"]}
    assert (given["TEST_ISSUER"], given["TEST_NAMESPACE"]) == ("b", "/realtime")


# Addresses


def test_services_have_the_families_that_they_are_given():
    def families(case):
        return [(each["spec"].get("ipFamilyPolicy"), each["spec"].get("ipFamilies")) for each in of_kind(objects(case), "Service")]

    assert families("keda") == [("RequireDualStack", ["IPv4", "IPv6"])] * 3
    assert families("eks") == [("SingleStack", ["IPv6"])] * 3
    assert families("fleet") == [(None, None)] * 3


def test_listeners_hear_both_families_unless_told_otherwise():
    hosts = {case: {value.rpartition(":")[0] for name, value in variables(objects(case)).items() if name.endswith("__LISTEN")} for case in ("eks", "operator")}
    assert hosts == {"eks": {"[::]"}, "operator": {"0.0.0.0"}}


def test_a_node_that_listens_as_the_chart_says_is_heard_in_either_family():
    node = Node()
    listeners = {f"HALLWAY_{name}__LISTEN": f"[::]:{at.rpartition(':')[2]}" for name, at in (("SERVER", node.main), ("ADMIN", node.admin))}
    with process([BINARY, "serve"], env=node.environment(**listeners), stderr=subprocess.DEVNULL):
        node.ready()
        for host in ("127.0.0.1", "[::1]"):
            assert get(f"http://{host}:{node.admin.rpartition(':')[2]}/livez")[0] == 200
            assert get(f"http://{host}:{node.main.rpartition(':')[2]}/api/health")[0] == 200
        asked = subprocess.run([BINARY, "health"], env=node.environment(**listeners), capture_output=True, text=True)
        assert asked.returncode == 0, asked.stderr


# Umbrella charts


@pytest.fixture(scope="module")
def umbrella(tmp_path_factory):
    """A chart that has this one as a part, under a condition."""
    folder = tmp_path_factory.mktemp("umbrella")
    part = {"name": "hallway", "version": "0.1.0", "condition": "hallway.enabled", "tags": ["realtime"]}
    meta = {"apiVersion": "v2", "name": "platform", "version": "1.0.0", "dependencies": [part]}
    (folder / "Chart.yaml").write_text(yaml.safe_dump(meta))
    shutil.copytree(CHART, folder / "charts/hallway")
    return folder


def of_umbrella(major, folder, values):
    """Rendered with values beside the umbrella chart, and with the same as its own values.yaml."""
    (folder / "values.yaml").write_text("")
    (folder / "beside.yaml").write_text(yaml.safe_dump(values))
    beside = helm(major, "template", RELEASE, str(folder), "--namespace", NAMESPACE, "--values", str(folder / "beside.yaml"))
    (folder / "values.yaml").write_text(yaml.safe_dump(emptied(values)))
    within = helm(major, "template", RELEASE, str(folder), "--namespace", NAMESPACE)
    assert (beside.returncode, within.returncode) == (0, 0), beside.stderr + within.stderr
    assert beside.stdout == within.stdout
    return [each for each in yaml.safe_load_all(beside.stdout) if each]


def emptied(values):
    """With empty texts for what is null: Helm 4 forgets the null of a part in the umbrella's own values.yaml."""
    if isinstance(values, dict):
        return {key: emptied(value) for key, value in values.items()}
    return "" if values is None else values


@pytest.mark.parametrize("case", ["argocd", "openshift", "gke", "keda"])
@pytest.mark.parametrize("major", HELMS)
def test_an_umbrella_chart_switches_it_on_and_off(umbrella, major, case):
    given = yaml.safe_load(values(case).read_text())
    outer = {"global": given.pop("global", {}) | {"storageClass": "fast"}}
    assert of_umbrella(major, umbrella, outer | {"hallway": given | {"enabled": False}}) == []
    found = of_umbrella(major, umbrella, outer | {"hallway": given | {"enabled": True}})
    for kind in ("Deployment", "Pod", "HTTPRoute", "PodDisruptionBudget"):
        assert of_kind(found, kind) == of_kind(objects(case), kind)


# The Prometheus operator


def test_what_is_scraped_has_the_labels_that_it_is_given():
    (endpoint,) = only(objects("operator"), "ServiceMonitor")["spec"]["endpoints"]
    assert (endpoint["interval"], endpoint["scrapeTimeout"]) == ("30s", "10s")
    assert endpoint["relabelings"] == [{"sourceLabels": ["__meta_kubernetes_pod_node_name"], "targetLabel": "node"}]
    assert [each["action"] for each in endpoint["metricRelabelings"]] == ["drop"]


ALERTS = """groups:
  - name: hallway
    rules:
      - alert: A
        expr: |
          sum(rate(a[5m]))
          > clamp_min(
            0.02 # aRatio
            * sum(b),
            10 # aLeast
          )
        annotations: {runbook_url: docs/operating.md#a, summary: 'more than 10 # aLeastOfAll'}
"""


@pytest.mark.parametrize("major", HELMS)
def test_a_threshold_is_set_by_its_name(tmp_path, major):
    chart = shutil.copytree(CHART, tmp_path / "hallway")
    (chart / "files/alerts.yaml").write_text(ALERTS)
    rule = flags("metrics.prometheusRule.enabled=true", "metrics.prometheusRule.runbookBase=https://git.example.com/hallway/")
    numbers = ["--set-json", 'metrics.prometheusRule.thresholds={"aRatio": 0.5, "aLeast": 2000000}']
    done = helm(major, "template", RELEASE, str(chart), *flags(AUTH), *rule, *numbers, "--show-only", "templates/monitoring.yaml")
    assert done.returncode == 0, done.stderr
    (found,) = yaml.safe_load(done.stdout)["spec"]["groups"][0]["rules"]
    expected = ALERTS.replace("0.02 # aRatio", "0.5 # aRatio").replace("10 # aLeast\n", "2000000 # aLeast\n")
    expected = expected.replace("runbook_url: ", "runbook_url: https://git.example.com/hallway/")
    assert found == yaml.safe_load(expected)["groups"][0]["rules"][0]


def test_every_threshold_of_the_alerts_can_be_set():
    text = (CHART / "files/alerts.yaml").read_text()
    named = re.compile(r"[0-9.]+ # (\w+)$", re.M)
    given = yaml.safe_load(values("operator").read_text())["metrics"]["prometheusRule"]["thresholds"]
    assert {"canarySeconds", "connectsLeast"} == set(given) <= set(named.findall(text))
    of_case = json.dumps(only(objects("operator"), "PrometheusRule"))
    assert "> 0.5 # canarySeconds" in of_case and "200 # connectsLeast" in of_case
    numbers = json.dumps(dict.fromkeys(named.findall(text), 123.5))
    changed = only(objects("operator", "--set-json", f"metrics.prometheusRule.thresholds={numbers}"), "PrometheusRule")
    expected = named.sub(r"123.5 # \1", text).replace("runbook_url: ", "runbook_url: https://git.example.com/realtime/hallway/")
    assert changed["spec"] == yaml.safe_load(expected)


def test_a_threshold_that_is_unknown_is_told_all_names(tmp_path):
    chart = shutil.copytree(CHART, tmp_path / "hallway")
    (chart / "files/alerts.yaml").write_text(ALERTS)
    done = helm(3, "template", RELEASE, str(chart), *flags(AUTH, "metrics.prometheusRule.thresholds.aMost=1"))
    assert "thresholds.aMost is the name of no threshold: there are aLeast, aLeastOfAll, aRatio." in done.stderr
