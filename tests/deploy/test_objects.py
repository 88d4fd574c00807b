"""The objects that the chart makes: valid for Kubernetes, safe, and fitting together."""

import functools
import json
import subprocess
import tomllib

import kubernetes_validate
import pytest

from chart import CASES, HERE, hallway, objects, of_kind, only, pods
from node import BINARY, SECRET

# The oldest that the chart takes, one between, and the newest.
KUBERNETES = ("1.30", "1.34", "1.37")
# What is no part of Kubernetes, and the fields that its spec may have.
FOREIGN = {
    "HTTPRoute": {"parentRefs", "hostnames", "rules"},
    "ServiceMonitor": {"selector", "endpoints"},
    "PrometheusRule": {"groups"},
}


@pytest.fixture(params=CASES)
def found(request):
    return objects(request.param)


@pytest.mark.parametrize("version", KUBERNETES)
def test_kubernetes_knows_every_field(found, version):
    for each in found:
        if each["kind"] not in FOREIGN:
            kubernetes_validate.validate(each, version, strict=True)


def test_an_unknown_field_would_be_found():
    deployment = only(objects("default"), "Deployment")
    deployment["spec"]["replicaz"] = 1
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(deployment, KUBERNETES[0], strict=True)


def test_operator_and_gateway_know_their_objects():
    foreign = [each for case in CASES for each in objects(case) if each["kind"] in FOREIGN]
    assert {each["kind"] for each in foreign} == set(FOREIGN)
    done = subprocess.run(["node", "crds.mjs"], input=json.dumps(foreign), capture_output=True, text=True, cwd=HERE)
    assert (done.returncode, done.stdout) == (0, ""), done.stdout + done.stderr
    for each in foreign:
        assert set(each["spec"]) <= FOREIGN[each["kind"]], each["kind"]


def test_no_pod_can_do_more_than_it_must(found):
    """The profile `restricted` of PodSecurity lets each in. A user with a number, unless the cluster gives one."""
    assert list(pods(found))
    for spec, _ in pods(found):
        assert spec["automountServiceAccountToken"] is False
        assert spec["enableServiceLinks"] is False
        assert not {"hostNetwork", "hostPID", "hostIPC"} & set(spec)
        assert all("hostPath" not in volume for volume in spec["volumes"])
        security = spec["securityContext"]
        assert security["runAsNonRoot"] is True and security.get("runAsUser", 1000) >= 1000
        assert security["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in spec["containers"] + spec.get("initContainers", []):
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
            resources = container["resources"]
            assert set(resources["requests"]) == set(resources["limits"]) == {"cpu", "memory"}
            image = container["image"]
            assert ("@sha256:" in image or ":" in image.rpartition("/")[2]) and not image.endswith(":latest"), image


def test_probes_ask_the_admin_port(found):
    container = hallway(found)
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    variables = {each["name"]: each.get("value") for each in container["env"]}
    listeners = {"SERVER": "client", "ADMIN": "admin"} | ({"API": "api"} if "api" in ports else {})
    for listener, port in listeners.items():
        host, _, number = variables[f"HALLWAY_{listener}__LISTEN"].rpartition(":")
        assert host in ("[::]", "0.0.0.0") and int(number) == ports[port], "the kubelet comes by the pod's address"
    asked = {probe: container[probe]["httpGet"] for probe in ("startupProbe", "livenessProbe", "readinessProbe")}
    assert asked == {
        "startupProbe": {"path": "/livez", "port": "admin"},
        "livenessProbe": {"path": "/livez", "port": "admin"},
        "readinessProbe": {"path": "/readyz", "port": "admin"},
    }


def test_the_admin_port_is_in_the_headless_service_alone(found):
    with_admin = [each for each in of_kind(found, "Service") if "admin" in str(each["spec"]["ports"])]
    assert [each["spec"]["clusterIP"] for each in with_admin] == ["None"]
    assert with_admin[0]["spec"]["publishNotReadyAddresses"] is True


def test_selectors_and_names_lead_to_something(found):
    labels = only(found, "Deployment")["spec"]["template"]["metadata"]["labels"]
    ports = {port["name"] for port in hallway(found)["ports"]}
    selectors = [each["spec"]["selector"] for each in of_kind(found, "Service")]
    selectors += [each["spec"]["selector"]["matchLabels"] for each in of_kind(found, "PodDisruptionBudget")]
    policies = {each["metadata"]["name"]: each["spec"]["podSelector"]["matchLabels"] for each in of_kind(found, "NetworkPolicy")}
    tests = {each["metadata"]["name"]: each["metadata"]["labels"] for each in of_kind(found, "Pod")}
    for name, selector in policies.items():
        assert selector.items() <= tests.get(name, labels).items(), name
    assert all(selector.items() <= labels.items() for selector in selectors)
    assert not any(selector.items() <= test.items() for selector in selectors for test in tests.values())
    for service in of_kind(found, "Service"):
        assert {port["targetPort"] for port in service["spec"]["ports"]} <= ports
    services = {each["metadata"]["name"]: each for each in of_kind(found, "Service")}
    for ingress in of_kind(found, "Ingress"):
        for path in ingress["spec"]["rules"][0]["http"]["paths"]:
            backend = path["backend"]["service"]
            assert backend["port"]["name"] in {port["name"] for port in services[backend["name"]]["spec"]["ports"]}
    for route in of_kind(found, "HTTPRoute"):
        for backend in route["spec"]["rules"][0]["backendRefs"]:
            assert backend["port"] in {port["port"] for port in services[backend["name"]]["spec"]["ports"]}
    for scaler in of_kind(found, "HorizontalPodAutoscaler"):
        assert scaler["spec"]["scaleTargetRef"]["name"] == only(found, "Deployment")["metadata"]["name"]
        assert "replicas" not in only(found, "Deployment")["spec"], "a render without a cluster states none"
    for monitor in of_kind(found, "ServiceMonitor"):
        wanted = monitor["spec"]["selector"]["matchLabels"]
        (service,) = [each for each in services.values() if wanted.items() <= each["metadata"]["labels"].items()]
        assert {endpoint["port"] for endpoint in monitor["spec"]["endpoints"]} <= {
            port["name"] for port in service["spec"]["ports"]
        }


def test_the_made_secret_is_where_it_is_asked_for_and_nowhere_else():
    found = objects("trial")
    secret = only(found, "Secret")
    references = [each["valueFrom"]["secretKeyRef"] for each in hallway(found)["env"] if "valueFrom" in each]
    assert {each["name"] for each in references} == {secret["metadata"]["name"]}
    assert {each["key"] for each in references} == set(secret["stringData"])
    others = [each for each in found if each["kind"] != "Secret"]
    assert all(text not in json.dumps(others) for text in secret["stringData"].values())


def test_a_node_has_time_to_stop():
    cases = [
        ([], 5 + 10 + 5 + 10),
        (["shutdown.drain=2m", "shutdown.reconnectSpread=30s"], 5 + 120 + 30 + 10),
        (["shutdown.drain=1500ms", "shutdown.preStopSeconds=0"], 0 + 2 + 5 + 10),
        (["shutdown.drain=1h", "shutdown.marginSeconds=60"], 5 + 3600 + 5 + 60),
    ]
    for settings, seconds in cases:
        flags = [part for setting in settings for part in ("--set", setting)]
        spec, _ = next(pods(objects("default", *flags)))
        assert spec["terminationGracePeriodSeconds"] == seconds, settings


def test_a_rollout_keeps_a_fleet_whole_and_never_has_two_lone_nodes():
    fleet, lone = (only(objects(case), "Deployment")["spec"]["strategy"] for case in ("fleet", "default"))
    assert fleet == {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}}
    assert lone == {"type": "Recreate"}


def test_a_change_of_configuration_or_secret_restarts_the_nodes():
    def sums(*settings):
        annotations = only(objects("trial", *settings), "Deployment")["spec"]["template"]["metadata"]["annotations"]
        return annotations["checksum/config"], annotations["checksum/secret"]

    before = sums()
    after_config = sums("--set", "config=[log]\nlevel = 'debug'")
    after_secret = sums("--set", "api.key=another-api-key-of-more-than-32-bytes")
    assert after_config[0] != before[0] and after_config[1] == before[1]
    assert after_secret[1] != before[1] and after_secret[0] == before[0]


def test_nodes_are_scaled_by_what_is_asked_for():
    def metrics(*settings):
        flags = [part for setting in settings for part in ("--set", f"autoscaling.{setting}")]
        return [each["type"] for each in only(objects("gateway", *flags), "HorizontalPodAutoscaler")["spec"]["metrics"]]

    assert metrics() == ["Resource", "Pods"]
    assert metrics("socketsPerPod=0") == ["Resource"]
    assert metrics("cpuPercent=0") == ["Pods"]


def test_websockets_have_their_time():
    annotations = only(objects("fleet"), "Ingress")["metadata"]["annotations"]
    assert annotations["nginx.ingress.kubernetes.io/proxy-send-timeout"] == "3600"
    assert annotations["nginx.ingress.kubernetes.io/proxy-read-timeout"] == "600", "what is set by hand goes over it"
    assert annotations["haproxy.org/timeout-tunnel"] == "3600s"
    rule = only(objects("gateway"), "HTTPRoute")["spec"]["rules"][0]
    assert rule["timeouts"] == {"request": "0s", "backendRequest": "0s"}
    assert "timeouts" not in only(objects("gke"), "HTTPRoute")["spec"]["rules"][0], "GKE refuses a route that has any"


def test_the_gateway_takes_its_configuration(found, tmp_path):
    """What a pod would find is put into a folder, and the real `check-config` reads it."""
    secrets = tmp_path / "secrets"
    for file in secret_files(found):
        (secrets / file["path"]).parent.mkdir(parents=True, exist_ok=True)
        (secrets / file["path"]).write_text(certificates().get(file["path"], f"{SECRET}-{file['path'].replace('/', '-')}\n"))
    for name, text in only_configuration(found)["data"].items():
        (tmp_path / name).write_text(text.replace("/run/secrets/hallway", str(secrets)))
    secrets_of_others(found, tmp_path)
    environment = {}
    if "envFrom" in hallway(found):
        environment = {"HALLWAY_AUTH__HS256_SECRET": SECRET, "HALLWAY_REDIS__URL": "redis://127.0.0.1:6379"}
    for each in hallway(found)["env"]:
        value = each.get("value", SECRET)
        if each["name"] == "HALLWAY_REDIS__URL" and "valueFrom" in each:
            made = [secret["stringData"] for secret in of_kind(found, "Secret")]
            value = made[0]["redis-url"] if made and "redis-url" in made[0] else "redis://127.0.0.1:6379"
        value = value.replace("/etc/hallway", str(tmp_path)).replace("/run/secrets/hallway", str(secrets))
        environment[each["name"]] = value
    arguments = [argument.replace("/etc/hallway", str(tmp_path)) for argument in hallway(found)["args"]]
    assert arguments[0] == "serve"
    done = subprocess.run([BINARY, "check-config", *arguments[1:]], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("the configuration is good\n")


@functools.cache
def certificates():
    """What a Secret for TLS has: an authority, which is also the client's certificate, and its key."""
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj /CN=test -keyout /dev/stdout"
    made = subprocess.run(command.split(), capture_output=True, text=True, check=True).stdout
    begin = made.index("-----BEGIN CERTIFICATE")
    return {"redis/ca": made[begin:], "redis/cert": made[begin:], "redis/key": made[:begin]}


def secrets_of_others(found, folder):
    """Files that neither the chart nor a Secret makes: what a volume of the user's own has."""
    configuration = folder / "hallway.toml"
    configuration.write_text(configuration.read_text().replace("/vault/secrets", str(folder)))
    (folder / "tokens").write_text(f"{SECRET}\n")
    (folder / "redis").write_text("redis://127.0.0.1:6379\n")


def secret_files(found):
    """What of Secrets is mounted: each key, and the path below /run/secrets/hallway."""
    volumes = only(found, "Deployment")["spec"]["template"]["spec"]["volumes"]
    sources = [source for volume in volumes if volume["name"] == "secrets" for source in volume["projected"]["sources"]]
    return [file | {"secret": source["secret"]["name"]} for source in sources for file in source["secret"]["items"]]


def test_every_secret_has_a_file_of_its_own():
    found = objects("trust")
    assert [(each["secret"], each["key"], each["path"]) for each in secret_files(found)] == [
        ("tokens-old", "hs256-secret", "hs256/0"),
        ("partners", "jwt-secret", "hs256/1"),
        ("hallway-shop", "api-key", "api/shop"),
        ("hallway-support", "token", "api/support-desk"),
        ("hallway-authorizer", "authorizer-secret", "authorizer"),
    ]
    mounts = {each["name"]: each["mountPath"] for each in hallway(found)["volumeMounts"]}
    assert mounts["secrets"] == "/run/secrets/hallway"
    config = tomllib.loads(only_configuration(found)["data"]["hallway.toml"])
    assert config["api"]["keys"] == {
        "shop": {"key_file": "/run/secrets/hallway/api/shop", "scopes": ["publish"], "rate": 200},
        "support-desk": {"key_file": "/run/secrets/hallway/api/support-desk", "scopes": ["read", "admin"]},
    }
    variables = {each["name"]: each.get("value") for each in hallway(found)["env"]}
    assert variables["HALLWAY_AUTH__HS256_SECRET_FILE"] == "/run/secrets/hallway/hs256/0,/run/secrets/hallway/hs256/1"
    assert variables["HALLWAY_AUTHORIZER__SECRET_FILE"] == "/run/secrets/hallway/authorizer"
    assert secret_files(objects("fleet")) == []


def test_the_network_policy_lets_nodes_reach_what_the_configuration_names():
    def reached(*settings):
        flags = [part for setting in settings for part in ("--set", setting)]
        rules = only(objects("trust", *flags), "NetworkPolicy")["spec"]["egress"]
        return [(rule["ports"][0]["port"], rule.get("to", "anywhere")) for rule in rules]

    provider = [{"ipBlock": {"cidr": "0.0.0.0/0", "except": ["10.0.0.0/8"]}}]
    authorizer = [{"podSelector": {"matchLabels": {"app": "authorizer"}}}]
    assert reached() == [(53, "anywhere"), (6379, "anywhere"), (443, provider), (8090, authorizer)]
    for url, port in [("https://id.example.com:8443/keys", 8443), ("http://[fd00::1]/keys", 80), ("http://[fd00::1]:81/keys", 81)]:
        config = f"config=[auth]\njwks_url = '{url}'\njwks_insecure = true"
        nobody = "authorizer.existingSecret=", "networkPolicy.jwksTo=null"
        assert reached(config, *nobody) == [(53, "anywhere"), (6379, "anywhere"), (port, "anywhere")]


def only_configuration(found):
    (one,) = [each for each in of_kind(found, "ConfigMap") if "hallway.toml" in each["data"]]
    return one
