"""The chart and the Helms that render it."""

import functools
import pathlib
import subprocess

import yaml

HERE = pathlib.Path(__file__).parent
ROOT = HERE.parent.parent
CHART = ROOT / "helm/hallway"
HELMS = (3, 4)
CASES = sorted(path.name.removesuffix("-values.yaml") for path in (CHART / "ci").glob("*-values.yaml"))
RELEASE, NAMESPACE = "hallway", "realtime"


def helm(major, *arguments):
    """Runs a Helm with nothing of this machine's own configuration."""
    binary = HERE / f".cache/helm-{major}"
    assert binary.exists(), f"{binary} is missing: ./check installs it"
    environment = {"HOME": str(HERE / ".cache"), "PATH": "/usr/bin:/bin"}
    return subprocess.run([binary, *arguments], capture_output=True, text=True, env=environment)


def values(case):
    return CHART / f"ci/{case}-values.yaml"


def template(major, *arguments):
    """What `helm template` prints."""
    return helm(major, "template", RELEASE, str(CHART), "--namespace", NAMESPACE, *arguments)


@functools.cache
def rendered(major, case, *arguments):
    """The text that a case renders to."""
    done = template(major, "--values", str(values(case)), *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout


def objects(case, *arguments):
    """The objects that a case renders to."""
    return [found for found in yaml.safe_load_all(rendered(3, case, *arguments)) if found]


def flags(*settings):
    """Settings as `--set` takes them."""
    return [part for setting in settings for part in ("--set", setting)]


@functools.cache
def notes(case, *arguments):
    """The notes of a case. By Helm 4: a dry run of Helm 3.18.0 asks the cluster for its version."""
    command = ["install", RELEASE, str(CHART), "--namespace", NAMESPACE, "--values", str(values(case))]
    done = helm(4, *command, "--dry-run=client", *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout.split("NOTES:\n")[1]


def of_kind(found, kind):
    return [each for each in found if each["kind"] == kind]


def only(found, kind):
    (one,) = of_kind(found, kind)
    return one


def pods(found):
    """The pod specs among the objects, each with the labels of its pods."""
    for each in found:
        if each["kind"] == "Deployment":
            template = each["spec"]["template"]
            yield template["spec"], template["metadata"]["labels"]
        elif each["kind"] == "Pod":
            yield each["spec"], each["metadata"]["labels"]


def hallway(found):
    """The container of a node."""
    return only(found, "Deployment")["spec"]["template"]["spec"]["containers"][0]
