"""What a cluster answers to Helm when a chart asks for an object that runs."""

import contextlib
import http.server
import json
import threading

from chart import NAMESPACE, RELEASE

# The kinds that the chart makes by default, and the names under which they are asked for.
KINDS = {
    "v1": ["ConfigMap", "Secret", "Service", "ServiceAccount"],
    "apps/v1": ["Deployment"],
    "autoscaling/v2": ["HorizontalPodAutoscaler"],
    "policy/v1": ["PodDisruptionBudget"],
}


def resource(kind):
    return {"name": f"{kind.lower()}s", "singularName": kind.lower(), "namespaced": True, "kind": kind, "verbs": ["get"]}


def group(version):
    name, _, number = version.partition("/")
    preferred = {"groupVersion": version, "version": number}
    return {"name": name, "versions": [preferred], "preferredVersion": preferred}


FIXED = {
    "/version": {"major": "1", "minor": "34", "gitVersion": "v1.34.0"},
    "/api": {"kind": "APIVersions", "versions": ["v1"]},
    "/apis": {"kind": "APIGroupList", "apiVersion": "v1", "groups": [group(version) for version in KINDS if "/" in version]},
}
for version, kinds in KINDS.items():
    found = {"kind": "APIResourceList", "groupVersion": version, "resources": [resource(kind) for kind in kinds]}
    FIXED[f"/apis/{version}" if "/" in version else f"/api/{version}"] = found
# By these Helm sees that an object is of its own release.
OURS = {
    "labels": {"app.kubernetes.io/managed-by": "Helm"},
    "annotations": {"meta.helm.sh/release-name": RELEASE, "meta.helm.sh/release-namespace": NAMESPACE},
}
MISSING = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "NotFound", "code": 404}


@contextlib.contextmanager
def cluster(**replicas):
    """The arguments by which Helm asks one with these Deployments, each with its number of nodes."""
    known = dict(FIXED)
    for name, number in replicas.items():
        found = {"kind": "Deployment", "apiVersion": "apps/v1", "metadata": OURS | {"name": name}, "spec": {"replicas": number}}
        known[f"/apis/apps/v1/namespaces/{NAMESPACE}/deployments/{name}"] = found

    class Answers(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            found = known.get(self.path.partition("?")[0])
            body = json.dumps(found or MISSING).encode()
            self.send_response(200 if found else 404)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answers) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}"
        try:
            yield ["--dry-run=server", "--disable-openapi-validation", "--kube-apiserver", address]
        finally:
            server.shutdown()
