"""What deploy/Dockerfile says can be done without Docker, and what comes of it runs where little is allowed."""

import json
import os
import pathlib
import re
import shutil
import subprocess
import sys

import pytest
import yaml

from chart import HERE, ROOT
from node import BINARY, SECRET, Node, eventually, process

# A user that no password file knows.
STRANGER = 54321
DOCKERFILE = (ROOT / "deploy/Dockerfile").read_text()


def tool(name):
    return pathlib.Path(sys.prefix) / "bin" / name


@pytest.fixture(scope="module")
def image(tmp_path_factory):
    """What deploy/build makes, of the debug binary that is there: a release build would take minutes. Beside it the
    libraries that the base image has."""
    root = tmp_path_factory.mktemp("image")
    built = subprocess.run([ROOT / "deploy/build", "--built", BINARY, root], capture_output=True, text=True)
    assert built.returncode == 0, built.stdout + built.stderr
    binary = root / "usr/local/bin/hallway"
    libraries = subprocess.run(["ldd", binary], capture_output=True, text=True, check=True).stdout
    for library in re.findall(r"(/\S+)", libraries):
        target = root / library.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(library, target)
    # A folder of a test is its owner's alone; an image is everybody's.
    for folder in (root, root.parent, root.parent.parent):
        folder.chmod(0o755)
    return root


def sealed(root):
    """The command that makes `root` the root of a process, read-only, and the process a stranger."""
    seal = 'mount --bind "$0" "$0" && mount -o remount,bind,ro "$0" && exec "$@"'
    if os.geteuid() == 0:
        outer, inner = ["unshare", "--mount"], ["chroot", f"--userspec={STRANGER}:{STRANGER}", root]
    else:
        ids = [f"--map-user={STRANGER}", f"--map-group={STRANGER}"]
        outer, inner = ["unshare", "--user", "--map-root-user", "--mount"], ["unshare", "--user", *ids, "--root", root]
    return [*outer, "sh", "-c", seal, root, *inner]


def test_it_starts_with_a_read_only_root_and_no_home_as_an_unknown_user(image):
    node = Node()
    command = [*sealed(image), "/usr/local/bin/hallway", "serve"]
    # No certificate authority is there either: what is asked without TLS needs none.
    settings = {"HALLWAY_AUTHORIZER__URL": "http://127.0.0.1:1/", "HALLWAY_AUTH__JWKS_URL": "http://127.0.0.1:1/"}
    environment = node.environment(**settings) | {"PATH": os.environ["PATH"]}
    with process(command, env=environment, stderr=subprocess.PIPE) as running:
        eventually("the gateway is ready", lambda: node.readyz() == 200 or running.poll() is not None)
        assert running.poll() is None, running.stderr.read().decode()
        status = pathlib.Path(f"/proc/{running.pid}/status").read_text()
        mounts = pathlib.Path(f"/proc/{running.pid}/mountinfo").read_text().splitlines()
        (options,) = [line.split()[5] for line in mounts if line.split()[4] == "/"]
        assert "HOME" not in environment
        assert "ro" in options.split(","), mounts
        asked = subprocess.run([*sealed(image), *health_check()], env=environment, capture_output=True, text=True)
        assert (asked.returncode, asked.stdout) == (0, "ready\n"), asked.stderr
        event = ["publish", "order:o1", "--type", "x", "--payload", "1", "--http", f"http://{node.main}"]
        said = subprocess.run([*sealed(image), "/usr/local/bin/hallway", *event], env=environment, capture_output=True, text=True)
        assert said.returncode == 0 and "order:o1" in said.stdout, said.stderr
        assert os.geteuid() != 0 or f"Uid:\t{STRANGER}\t{STRANGER}" in status, status
        running.terminate()
        assert running.wait(20) == 0, running.stderr.read().decode()


def health_check():
    """The command by which Docker asks how the container is."""
    return json.loads(re.search(r"^HEALTHCHECK (?:--\S+ |\\\n\s*)*CMD (\[.*\])$", DOCKERFILE, re.M)[1])


def test_a_token_can_be_had_from_inside(image):
    command = [*sealed(image), "/usr/local/bin/hallway", "token", "--sub", "dev"]
    environment = {"HALLWAY_AUTH__HS256_SECRET": SECRET, "PATH": os.environ["PATH"]}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.count(".") == 2, done.stderr


def test_the_dockerfile_has_no_faults_that_are_known():
    done = subprocess.run([tool("hadolint"), ROOT / "deploy/Dockerfile"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_image_is_of_a_user_with_a_number_and_says_what_it_is():
    final = DOCKERFILE.rpartition("\nFROM ")[2]
    assert re.search(r"^USER (\d+):(\d+)$", final, re.M), "kubelet can tell no root only from a number"
    labels = ("title", "description", "licenses", "version", "revision", "created", "source", "base.name", "base.digest")
    for label in labels:
        assert f"org.opencontainers.image.{label}=" in final


def test_the_last_building_step_is_the_one_that_runs_here():
    steps = [line for line in DOCKERFILE.splitlines() if line.startswith("RUN ")]
    assert steps[-1] == "RUN deploy/build /image"
    assert "COPY --from=build /image/ /" in DOCKERFILE


def test_the_builder_is_given_all_that_cargo_reads(tmp_path):
    for pattern in (ROOT / ".dockerignore").read_text().splitlines():
        if pattern.startswith("!"):
            source, target = ROOT / pattern[1:], tmp_path / pattern[1:]
            target.parent.mkdir(parents=True, exist_ok=True)
            copy = shutil.copytree if source.is_dir() else shutil.copy
            copy(source, target)
    done = subprocess.run(["cargo", "metadata", "--locked", "--no-deps", "--format-version", "1"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for source in [*tmp_path.glob("src/**/*.rs"), *tmp_path.glob("rooms/src/**/*.rs")]:
        for included in re.findall(r'include_(?:str|bytes)!\("([^"]+)"\)', source.read_text()):
            assert (source.parent / included).exists(), f"{source} includes {included}: .dockerignore keeps it away"


def test_the_rust_of_the_image_is_new_enough():
    wanted = re.search(r'^rust-version = "1\.(\d+)"', (ROOT / "Cargo.toml").read_text(), re.M)
    given = re.search(r"^ARG RUST=rust:1\.(\d+)-", DOCKERFILE, re.M)
    assert int(given[1]) >= int(wanted[1])


def test_builder_and_base_are_one_debian_that_is_supported():
    """Debian 12 had its last release in 2026."""
    builder = re.search(r"^ARG RUST=rust:.*-slim-(\w+)$", DOCKERFILE, re.M)[1]
    base = re.search(r"^ARG BASE=gcr\.io/distroless/cc-debian(\d+):nonroot$", DOCKERFILE, re.M)[1]
    assert (builder, base) == ("trixie", "13")
    assert f"gcr.io/distroless/cc-debian{base}." in (ROOT / "deploy/build").read_text()


DOCKER = """#!/bin/sh
[ "$1 $2 $3" = "buildx imagetools inspect" ] || exit 2
case $6 in
rust:*) echo sha256:%s ;;
gcr.io/*) echo sha256:%s ;;
esac
"""


def pin(dockerfile, path, *options):
    command = [ROOT / "deploy/pin", *options, dockerfile]
    return subprocess.run(command, env={"PATH": f"{path}:/usr/bin:/bin"}, capture_output=True, text=True)


def test_a_release_is_built_from_digests(tmp_path):
    """Where a registry is in reach `deploy/pin` writes them down; the registry is played here."""
    file, docker = tmp_path / "Dockerfile", tmp_path / "docker"
    file.write_text(re.sub(r"^(ARG \w+_DIGEST=).*$", r"\1", DOCKERFILE, flags=re.M))
    loose = pin(file, tmp_path, "--check")
    assert loose.returncode == 1 and "rust:1.95-slim-trixie has no digest" in loose.stderr

    docker.write_text(DOCKER % ("a" * 64, "b" * 64))
    docker.chmod(0o755)
    done = pin(file, tmp_path)
    assert done.returncode == 0, done.stderr
    digests = dict(re.findall(r"^ARG (\w+_DIGEST)=(.*)$", file.read_text(), re.M))
    assert digests == {"RUST_DIGEST": "sha256:" + "a" * 64, "BASE_DIGEST": "sha256:" + "b" * 64}
    assert pin(file, tmp_path, "--check").returncode == 0
    for name in ("RUST", "BASE"):
        assert f"FROM ${{{name}}}${{{name}_DIGEST:+@${name}_DIGEST}}" in DOCKERFILE

    docker.write_text("#!/bin/sh\necho nothing of use\n")
    before = file.read_text()
    done = pin(file, tmp_path)
    assert done.returncode == 1 and "no digest of rust:" in done.stderr and file.read_text() == before


def test_the_proxy_of_the_compose_file_waits_for_nodes_that_are_healthy():
    services = yaml.safe_load((ROOT / "deploy/compose.yaml").read_text())["services"]
    waits = {name: each["condition"] for name, each in services["proxy"]["depends_on"].items()}
    assert waits == {"node-1": "service_healthy", "node-2": "service_healthy"}
    for name in waits:
        assert services[name]["depends_on"] == {"redis": {"condition": "service_healthy"}}
        assert "healthcheck" not in services[name], "the image has one"
    assert health_check() == ["/usr/local/bin/hallway", "health"]


def test_the_compose_file_is_one():
    done = subprocess.run(
        [tool("check-jsonschema"), "--builtin-schema", "vendor.compose-spec", ROOT / "deploy/compose.yaml"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_nodes_of_the_compose_file_are_no_freer_than_those_of_the_chart():
    services = yaml.safe_load((ROOT / "deploy/compose.yaml").read_text())["services"]
    for name in ("node-1", "node-2"):
        service = services[name]
        assert service["read_only"] is True and service["cap_drop"] == ["ALL"]
        assert "ports" not in service, "clients come by the proxy, and nobody from outside to the admin port"


def test_the_golden_files_name_the_user_of_the_image():
    user = re.search(r"^USER (\d+)", DOCKERFILE, re.M)[1]
    assert f"runAsUser: {user}\n" in (HERE / "golden/default.yaml").read_text()
