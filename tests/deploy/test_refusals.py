"""Values that cannot be meant are refused, with a sentence that says what to do. Both Helms say it."""

import pytest

from chart import HELMS, template

BASE = ["--set", "auth.existingSecret=tokens"]
KEYLESS = []

# What is set, and what each Helm must say: one text for both, or one for each.
SCHEMA = [
    ("replica=3", "dditional propert", "replica"),
    ("image.tags=x", "dditional propert", "tags"),
    ("replicas=many", "replicas", "pattern"),
    ("replicas=-1", "replicas", "0"),
    ("image.pullPolicy=Sometimes", "pullPolicy", "IfNotPresent"),
    ("image.digest=sha256:12", "digest", "pattern"),
    ("ports.client=80", "ports", "024"),
    ("shutdown.drain=soon", "drain", "pattern"),
    ("shutdown.drain=10", "drain", "string"),
    ("shutdown.marginSeconds=0", "marginSeconds", "5"),
    ("auth.hs256Secret=too-short", "hs256Secret", "32"),
    ("api.key=too-short", "key", "32"),
    ("auth.publicKeys.a\\.pem=nonsense", "a.pem", "PUBLIC KEY"),
    ("auth.publicKeys.a=nonsense", "publicKeys", "pem"),
    ("auth.moreSecrets[0].existingSecretKey=x", "moreSecrets", "existingSecret"),
    ("api.keys.shop.existingSecret=x", "shop", "scopes"),
    ("api.keys.shop.scopes={publish\\,all}", "scopes", "publish"),
    ("api.keys.none.existingSecret=x", "keys", "none"),
    ("service.externalTrafficPolicy=local", "externalTrafficPolicy", "Local"),
    ("redis.url=localhost:6379", "url", "rediss"),
    ("redis.url=redis-sentinel://localhost:26379", "url", "rediss"),
    ("redis.sentinel.enabled=true", "dditional propert", "sentinel"),
    ("ingress.hosts={UPPER.example.com}", "hosts", "pattern"),
    ("ingress.paths={socket.io}", "paths", "pattern"),
    ("ingress.idleSeconds=10", "idleSeconds", "60"),
    ("service.type=ExternalName", "type", "LoadBalancer"),
    ("config.history.max_events=5", "config", "string"),
    ("extraEnv[0].value=x", "extraEnv", "name"),
    ("autoscaling.cpuPercent=200", "cpuPercent", "100"),
    ("metrics.serviceMonitor.interval=often", "interval", "pattern"),
    ("metrics.prometheusRule.thresholds.canarySeconds=half", "canarySeconds", "number"),
    ("metrics.prometheusRule.runbookBase=docs", "runbookBase", "pattern"),
    ("listenAddress=127.0.0.1", "listenAddress", "::"),
    ("image.registry=https://registry.example.com", "registry", "pattern"),
    ("imagePullSecrets[0].nme=regcred", "imagePullSecrets", "name"),
    ("probes.readiness.httpGet.path=/", "readiness", "httpGet"),
    ("probes.readiness.periodSeconds=often", "periodSeconds", "pattern"),
    ("strategy.rollingUpdat.maxSurge=1", "strategy", "rollingUpdat"),
    ("podDisruptionBudget.maxUnavailable=0", "maxUnavailable", "1"),
    ("podDisruptionBudget.minAvailable=100%", "minAvailable", "pattern"),
    ("httpRoute.timeouts.request=soon", "request", "pattern"),
    ("httpRoute.timeouts.idle=0s", "timeouts", "idle"),
    ("networkPolicy.redisPort=0", "redisPort", "1"),
    ("service.ipFamilies={ipv6}", "ipFamilies", "IPv6"),
    ("extraContainers[0].image=x", "extraContainers", "name"),
    ("extraContainers[0].name=hallway", "extraContainers", "name"),
    ("redis.tls.ca=a/b", "ca", "pattern"),
]

# What is set beside BASE, and the sentence.
CONTRADICTIONS = [
    (BASE, ["replicas=3"], "3 replicas need Redis: without it each node keeps its rooms in its own memory"),
    (BASE, ["replicas=3"], "Set redis.existingSecret or redis.url, or replicas=1."),
    (BASE, ["autoscaling.enabled=true"], "autoscaling needs Redis: without it each node keeps its rooms in its own memory"),
    (KEYLESS, ["replicas=1"], "no token could be believed: set auth.existingSecret"),
    (BASE, ["auth.hs256Secret=a-secret-for-ci-of-more-than-32-bytes"], "auth.existingSecret and auth.hs256Secret are both set"),
    (BASE, ["redis.existingSecret=r", "redis.url=redis://r"], "redis.existingSecret and redis.url are both set: keep one, or name the key of the password alone in redis.existingSecretPasswordKey"),
    (BASE, ["redis.url=redis://r", "redis.existingSecretPasswordKey=p"], "redis.existingSecretPasswordKey is a key of no Secret: set redis.existingSecret"),
    (BASE, ["redis.url=redis://u:x@r", "redis.existingSecret=r", "redis.existingSecretPasswordKey=p"], "redis.url has a password and redis.existingSecretPasswordKey names another"),
    (BASE, ["redis.url=redis://r", "redis.username=u"], "redis.username needs a password: set redis.existingSecret and redis.existingSecretPasswordKey"),
    (BASE, ["redis.url=redis://u@r", "redis.username=v"], "redis.url names a user and redis.username another: keep one"),
    (BASE, ["redis.url=redis://r", "redis.tls.existingSecret=t"], "redis.tls is of no use to a redis:// URL"),
    (BASE, ["redis.url=rediss://r", "redis.tls.existingSecret=t", "redis.tls.ca="], "redis.tls.existingSecret has nothing to give"),
    (BASE, ["redis.url=rediss://r", "redis.tls.existingSecret=t", "redis.tls.clientCert=c"], "a client certificate needs its key: set both"),
    (BASE, ["redis.url=rediss://r", "redis.tls.clientCert=c", "redis.tls.clientKey=k"], "keys of no Secret: set redis.tls.existingSecret"),
    (BASE, ["redis.existingSecret=r", "config=[redis]\npassword = 'x'"], "config must not set password under [redis]: the chart does, from the value redis.existingSecretPasswordKey"),
    (BASE, ["redis.url=rediss://r", "redis.tls.existingSecret=t", "config=[redis]\nca_file = '/ca'"], "config sets ca_file under [redis], and the chart sets the same from the value redis.tls.ca"),
    (BASE, ["replicas=null"], "nodes that something else counts (replicas=null) need Redis"),
    (BASE, ["strategy.type=RollingUpdate"], "strategy must be Recreate without Redis"),
    (BASE, ["redis.existingSecret=r", "replicas=3", "podDisruptionBudget.minAvailable=3"], "podDisruptionBudget.minAvailable (3) lets no node of 3 go"),
    (BASE, ["redis.existingSecret=r", "autoscaling.enabled=true", "podDisruptionBudget.minAvailable=2"], "podDisruptionBudget.minAvailable (2) lets no node of 2 go"),
    (BASE, ["service.loadBalancerClass=nlb"], "service.loadBalancerClass and service.loadBalancerSourceRanges are for a LoadBalancer"),
    (BASE, ["service.ipFamilies={IPv4,IPv6}"], "two service.ipFamilies need both: set service.ipFamilyPolicy"),
    (BASE, ["service.ipFamilies={IPv6}", "listenAddress=0.0.0.0"], "service.ipFamilies has IPv6, and nodes at 0.0.0.0 do not hear it"),
    (BASE, ["metrics.prometheusRule.thresholds.canarySecond=1"], "metrics.prometheusRule.thresholds.canarySecond is the name of no threshold"),
    (BASE, ["config=[shutdown]\ndrain = '1m'"], "config must not set drain under [shutdown]: the chart does, from the value shutdown.drain"),
    (BASE, ["config=[redis]\nurl = 'redis://r'"], "config must not set url under [redis]: the chart does, from the value redis.existingSecret"),
    (BASE, ["config=[admin]\nlisten = '0.0.0.0:1'"], "config must not set listen under [admin]: the chart does, from the value listenAddress and ports.admin"),
    (BASE, ["redis.url=redis://r", "extraEnv[0].name=HALLWAY_REDIS__URL", "extraEnv[0].value=x"], "extraEnv must not set HALLWAY_REDIS__URL: the chart does, from the value redis.existingSecret or redis.url"),
    (BASE, ["extraEnv[0].name=HALLWAY_API__LISTEN", "extraEnv[0].value=x"], "extraEnv must not set HALLWAY_API__LISTEN: the chart does, from the value api.ownListener and ports.api"),
    (BASE, ["redis.existingSecret=r", "extraEnv[0].name=HALLWAY_REDIS__URL_FILE", "extraEnv[0].value=x"], "extraEnv sets HALLWAY_REDIS__URL_FILE, and the chart sets the same from the value redis.existingSecret or redis.url"),
    (BASE, ["config=not toml"], "config is no TOML"),
    (BASE, ["ports.admin=8080"], "two listeners have one port"),
    (BASE, ["api.ownListener=true"], "api.ownListener opens a port where nothing answers without a key"),
    (BASE, ["api.keys.a.existingSecret=a", "api.keys.a.scopes={read}", "config=[api.keys.b]\nkey_file = 'b'"], "config has [api.keys] and the value api.keys is set too: keep one"),
    (BASE, ["auth.moreSecrets[0].existingSecret=a", "config=[auth]\nhs256_secret_file = 'b'"], "config sets hs256_secret_file under [auth] and the value auth.moreSecrets is set too"),
    (BASE, ["api.existingSecret=a", "config=[api]\nkey_file = 'b'"], "config sets key_file under [api], and the chart sets the same from the value api.existingSecret or api.key: keep one"),
    (BASE, ["redis.url=redis://r", "config=[redis]\nurl_file = 'b'"], "config sets url_file under [redis], and the chart sets the same"),
    (BASE, ["config=[authorizer]\nsecret_file = 'b'"], "config must not set secret_file under [authorizer]: the chart does, from the value authorizer.existingSecret"),
    (BASE, ["authorizer.existingSecret=a"], "authorizer.existingSecret is a secret for nobody: set url under [authorizer] in config"),
    (BASE, ["networkPolicy.enabled=true", "extraEnv[0].name=HALLWAY_AUTH__JWKS_URL"], "networkPolicy lets the nodes reach what config names: set jwks_url under [auth] there"),
    (BASE, ["ingress.enabled=true", "ingress.hosts={a.b}", "config=[limits]\nconnections_per_ip = 5"], "connections_per_ip counts by address, and all clients would have that of the proxy: set trusted_proxies under [server]"),
    (BASE, ["service.externalTrafficPolicy=Local"], "service.externalTrafficPolicy is for NodePort and LoadBalancer"),
    (BASE, ["ingress.enabled=true"], "the Ingress has no host: set ingress.hosts"),
    (BASE, ["httpRoute.enabled=true"], "the HTTPRoute has no Gateway: set httpRoute.parentRefs"),
    (BASE, ["redis.existingSecret=r", "autoscaling.enabled=true", "autoscaling.minReplicas=20"], "autoscaling.minReplicas (20) is above autoscaling.maxReplicas (10)"),
    (BASE, ["redis.existingSecret=r", "autoscaling.enabled=true", "autoscaling.cpuPercent=0"], "autoscaling has nothing to go by"),
]


def refused(major, *settings):
    done = template(major, *settings)
    assert done.returncode != 0, f"it renders: {settings}"
    return done.stderr


def test_the_base_itself_renders():
    for major in HELMS:
        assert template(major, *BASE).returncode == 0


@pytest.mark.parametrize(("setting", "where", "what"), SCHEMA)
@pytest.mark.parametrize("major", HELMS)
def test_a_wrong_value_is_refused(major, setting, where, what):
    said = refused(major, *BASE, "--set", setting)
    assert "schema" in said, said
    assert where in said and what in said, said


@pytest.mark.parametrize(("base", "settings", "sentence"), CONTRADICTIONS)
@pytest.mark.parametrize("major", HELMS)
def test_a_contradiction_is_told(major, base, settings, sentence):
    flags = [part for setting in settings for part in ("--set", setting)]
    assert sentence in refused(major, *base, *flags)


def test_all_contradictions_are_told_at_once():
    said = refused(3, "--set", "replicas=2", "--set", "ports.admin=8080", "--set", "ingress.enabled=true")
    assert said.count("\n- ") == 4, said


def test_a_secret_that_is_refused_is_not_repeated():
    for major in HELMS:
        assert "p4ssw0rd" not in refused(major, *BASE, "--set", "api.key=p4ssw0rd")
