"""What stands under docker/: read as the tools that use it would, and held to what docs/security.md promises of it."""

import contextlib
import importlib.util
import json
import os
import re
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import ModuleType
from typing import Any

import kubernetes_validate
import pytest
import yaml
from needs import needs_bash
from places import ROOT

DOCKER = ROOT / "docker"
MANIFESTS = sorted((DOCKER / "kubernetes").glob("*.yaml"))
SECRET_NAME = re.compile(r"PASSWORD|SECRET|TOKEN$|ACCESS_KEY|AUTH_STRING|API_KEY", re.IGNORECASE)
SECRET_TEXT = re.compile(r"AKIA[0-9A-Z]{16}|-----BEGIN [A-Z ]*PRIVATE KEY|\b[0-9a-f]{40,}\b|://[^/\s:@{}]+:[^/\s:@{}]+@")
STEP = re.compile(r"^([a-z_]+)\(\) \{$", re.MULTILINE)


def documents(path: Path) -> list[dict[str, Any]]:
    return [document for document in yaml.safe_load_all(path.read_text()) if document]


def locked(name: str) -> str:
    """The version of a library in requirements.lock."""
    return re.search(rf"^{name}==([^ ;\\]+)", (ROOT / "requirements.lock").read_text(), re.MULTILINE)[1]


# The image


def last_stage() -> dict[str, list[str]]:
    """The instructions of the Dockerfile's last stage, each with its lines."""
    text = re.sub(r"^#.*\n", "", (DOCKER / "Dockerfile").read_text(), flags=re.MULTILINE).replace("\\\n", " ")
    stage: dict[str, list[str]] = {}
    for line in text.splitlines():
        name, _, rest = line.strip().partition(" ")
        if name == "FROM":
            stage = {}
        stage.setdefault(name, []).append(" ".join(rest.split()))
    return stage


def test_dockerfile_is_lint_free() -> None:
    linter = Path(sys.executable).parent / "hadolint"
    linted = subprocess.run([linter, DOCKER / "Dockerfile"], capture_output=True, text=True, check=False)
    assert linted.returncode == 0, linted.stdout


def test_image_runs_as_a_user_with_a_health_check_and_a_volume_for_models() -> None:
    stage = last_stage()
    assert stage["USER"] == ["10001:10001"]
    assert "healthcheck.py" in stage["HEALTHCHECK"][0]
    assert stage["VOLUME"] == ['["/models"]']


def test_image_has_neither_compiler_nor_installer_and_phones_nowhere() -> None:
    stage = last_stage()
    installed = re.search(r"--no-install-recommends ([^&]*)&&", stage["RUN"][0])[1].split()
    assert installed == ["ca-certificates", "python3"]
    assert len(stage["RUN"]) == 1
    for setting in ("PREFECT_SERVER_ANALYTICS_ENABLED=false", "GX_ANALYTICS_ENABLED=False", "RAY_USAGE_STATS_ENABLED=0"):
        assert setting in stage["ENV"][0]
    assert "HF_HOME=/models/" in stage["ENV"][0]


def test_image_is_made_of_hashed_libraries_only() -> None:
    script = (DOCKER / "install.sh").read_text()
    lines = [line.strip() for line in script.splitlines() if line.strip().startswith("install ")]
    assert [line for line in lines if "--require-hashes" not in line] == [
        "install --reinstall --no-deps --torch-backend cpu \\"
    ]
    assert "--require-hashes" in (DOCKER / "Dockerfile").read_text().split("AS application")[1]
    pins = re.findall(r"^(\S+)", (DOCKER / "uv.txt").read_text(), re.MULTILINE)
    assert pins == [f"uv=={re.search(r'UV_VERSION := (.*)', (ROOT / 'Makefile').read_text())[1]}"]


def test_context_is_what_the_image_copies_and_no_more() -> None:
    lines = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if not line.startswith("#")]
    assert lines[0] == "*"
    taken = {line[1:] for line in lines if line.startswith("!")}
    copied = re.findall(r"^COPY (?!--from)(.*) \S+$", (DOCKER / "Dockerfile").read_text(), re.MULTILINE)
    assert taken == {name for line in copied for name in line.split()}


@pytest.mark.parametrize(
    ("script", "shell"), [("install.sh", "sh"), ("steps.sh", "sh"), pytest.param("check.sh", "bash", marks=needs_bash)]
)
def test_scripts_can_be_read_by_their_shells(script: str, shell: str) -> None:
    subprocess.run([shell, "-n", DOCKER / script], check=True)


# The health check


@pytest.fixture
def healthcheck() -> ModuleType:
    spec = importlib.util.spec_from_file_location("healthcheck", DOCKER / "healthcheck.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def answering() -> Iterator[Any]:
    """A server that answers with the status in its path."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(int(self.path[1:]))
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield lambda status: f"http://127.0.0.1:{server.server_address[1]}/{status}"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(
    "program", ["/opt/venv/bin/python /opt/venv/bin/prefect --no-prompt worker start --pool p", "python prefect server start"]
)
def test_health_of_prefect_is_what_it_answers(healthcheck: ModuleType, answering: Any, program: str) -> None:
    for status, well in ((200, True), (503, False)):
        healthcheck.WORKER = healthcheck.SERVER = answering(status)
        assert healthcheck.healthy([program.split(), ["sh"]]) is well
    healthcheck.WORKER = healthcheck.SERVER = "http://127.0.0.1:1/"
    assert not healthcheck.healthy([program.split()])


def test_a_container_without_a_service_is_healthy_unless_it_should_run_ray(healthcheck: ModuleType) -> None:
    assert healthcheck.healthy([["python", "moderate", "run", "s3://shop/uploads"]])
    assert healthcheck.healthy([["bash", "-c", "ray start --help"]]), "what a shell is told is no command yet"
    assert not healthcheck.healthy([["python", "/opt/venv/bin/ray", "start", "--head", "--block"]]), "Ray has not come up"


@pytest.mark.parametrize(("code", "well"), [(0, True), (1, False)])
def test_health_of_a_ray_node_is_its_cluster(
    healthcheck: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, well: bool
) -> None:
    ray = tmp_path / "ray"
    ray.write_text(f'#!/bin/sh\n[ "$*" = health-check ] && exit {code}\nexit 99\n')
    ray.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    assert healthcheck.healthy([["/venv/ray/core/src/ray/raylet/raylet", "--node_ip=10.0.0.1"]]) is well


# The compose file


@pytest.mark.parametrize("name", ["compose.yaml", "compose.gpu.yaml"])
def test_compose_follows_the_specification(name: str) -> None:
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", DOCKER / name]
    checked = subprocess.run(command, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((DOCKER / "compose.yaml").read_text())["services"]
    return found


def test_published_ports_are_bound_to_loopback(services: dict[str, Any]) -> None:
    ports = [port for service in services.values() for port in service.get("ports", [])]
    assert sorted(ports) == ["127.0.0.1:4200:4200", "127.0.0.1:7070:7070"]


def test_secrets_come_from_the_environment_and_none_may_be_missing(services: dict[str, Any]) -> None:
    asked = set()
    for service in services.values():
        for name, value in service.get("environment", {}).items():
            if SECRET_NAME.search(name):
                assert re.fullmatch(r"(admin:)?\$\{[A-Z0-9_]+:\?[^}]+}", value), f"{name}: {value}"
            asked |= set(re.findall(r"\$\{([A-Z0-9_]+):\?", value))
    lines = [line for line in (DOCKER / "example.env").read_text().splitlines() if line and not line.startswith("#")]
    assert {line.removesuffix("=") for line in lines} == asked
    assert ".env" in (DOCKER / ".gitignore").read_text().split()


def test_prefect_and_ray_ask_who_is_there(services: dict[str, Any]) -> None:
    server = services["prefect-server"]["environment"]["PREFECT_SERVER_API_AUTH_STRING"]
    for name in ("deploy", "prefect-worker", "demo"):
        assert services[name]["environment"]["PREFECT_API_AUTH_STRING"] == server
    for name in ("ray-head", "ray-worker", "prefect-worker"):
        assert services[name]["environment"]["RAY_AUTH_MODE"] == "token"
        assert services[name]["environment"]["RAY_AUTH_TOKEN"] == services["ray-head"]["environment"]["RAY_AUTH_TOKEN"]


def test_images_are_pinned_by_version(services: dict[str, Any]) -> None:
    for name, service in services.items():
        tag = service["image"].rpartition(":")[2]
        assert ("build" in service) if tag == "local" else re.match(r"v?\d+\.\d+", tag), name


def test_services_wait_for_the_health_checks_of_others(services: dict[str, Any]) -> None:
    for name, service in services.items():
        for other, wait in service.get("depends_on", {}).items():
            once = services[other].get("restart") == "no"
            assert wait["condition"] == ("service_completed_successfully" if once else "service_healthy"), f"{name}: {other}"
            assert "healthcheck" in services[other] or "build" in services[other], other


def test_steps_are_those_of_the_script(services: dict[str, Any]) -> None:
    steps = set(STEP.findall((DOCKER / "steps.sh").read_text()))
    called = [service["command"][2:] for service in services.values() if "/app/docker/steps.sh" in service.get("command", [])]
    called += [container["args"] for container in containers() if "/app/docker/steps.sh" in container.get("command", [])]
    assert len(called) == 4
    assert {step for names in called for step in names} == steps


# Kubernetes


def pods() -> Iterator[tuple[str, dict[str, Any]]]:
    """The pod templates of all manifests, a Ray cluster's among them."""
    for path in MANIFESTS:
        for document in documents(path):
            spec = document.get("spec", {})
            if document["kind"] == "RayCluster":
                yield "head", spec["headGroupSpec"]["template"]
                for group in spec["workerGroupSpecs"]:
                    yield group["groupName"], group["template"]
            elif "template" in spec:
                yield document["metadata"]["name"], spec["template"]


def containers() -> list[dict[str, Any]]:
    return [container for _, pod in pods() for container in pod["spec"]["containers"]]


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.stem)
def test_manifests_follow_kubernetes_schemas(path: Path) -> None:
    for document in documents(path):
        if document["kind"] in ("RayCluster", "Kustomization"):
            continue  # no schema of Kubernetes' own
        kubernetes_validate.validate(document, "1.37", strict=True)


def test_pods_of_the_ray_cluster_follow_kubernetes_schemas() -> None:
    found = dict(pods())
    assert sorted(found) == ["gpu", "head", "prefect-worker"]
    for name, template in found.items():
        pod = {"apiVersion": "v1", "kind": "PodTemplate", "metadata": {"name": name}, "template": template}
        kubernetes_validate.validate(pod, "1.37", strict=True)


def test_ray_cluster_has_the_fields_that_kuberay_documents() -> None:
    cluster = next(d for path in MANIFESTS for d in documents(path) if d["kind"] == "RayCluster")
    assert cluster["apiVersion"] == "ray.io/v1"
    assert set(cluster["spec"]) == {"rayVersion", "headGroupSpec", "workerGroupSpecs"}
    head = cluster["spec"]["headGroupSpec"]
    assert set(head) == {"serviceType", "rayStartParams", "template"}
    assert head["serviceType"] == "ClusterIP"
    for group in cluster["spec"]["workerGroupSpecs"]:
        assert set(group) == {"groupName", "replicas", "minReplicas", "maxReplicas", "rayStartParams", "template"}
        assert group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]
    for group in (head, *cluster["spec"]["workerGroupSpecs"]):
        assert all(isinstance(value, str) for value in group["rayStartParams"].values())


def test_containers_run_without_rights_and_within_limits() -> None:
    for name, pod in pods():
        assert pod["spec"]["securityContext"]["runAsNonRoot"] is True, name
        assert pod["spec"]["securityContext"]["runAsUser"] == 10001, name
        assert pod["spec"]["automountServiceAccountToken"] is False, name
        for container in pod["spec"]["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "capabilities": {"drop": ["ALL"]},
                "readOnlyRootFilesystem": True,
            }, name
            for kind in ("requests", "limits"):
                assert {"cpu", "memory", "ephemeral-storage"} <= set(container["resources"][kind]), name
            assert container["readinessProbe"]["exec"]["command"] == ["python", "/app/docker/healthcheck.py"]


def test_secrets_of_containers_are_references() -> None:
    for container in containers():
        names = {entry["name"]: entry for entry in container["env"]}
        assert names["RAY_AUTH_MODE"]["value"] == "token"
        for name, entry in names.items():
            assert not SECRET_NAME.search(name) or "secretKeyRef" in entry["valueFrom"], name


def test_secrets_are_an_example_without_content_and_not_applied() -> None:
    for path in MANIFESTS:
        for document in documents(path):
            if document["kind"] == "Secret":
                assert path.name == "secrets.example.yaml"
                assert not any(document["stringData"].values())
    applied = documents(DOCKER / "kubernetes" / "kustomization.yaml")[0]["resources"]
    assert sorted(applied) == sorted(p.name for p in MANIFESTS if p.name not in ("kustomization.yaml", "secrets.example.yaml"))


def test_gpu_workers_ask_for_one_and_tolerate_its_taint() -> None:
    spec = dict(pods())["gpu"]["spec"]
    assert spec["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == "1"
    assert spec["tolerations"] == [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}]


def test_network_policy_lets_in_nobody_else() -> None:
    policy = documents(DOCKER / "kubernetes" / "network-policy.yaml")[0]["spec"]
    assert policy["podSelector"] == {}
    assert policy["policyTypes"] == ["Ingress", "Egress"]
    ours = {"app.kubernetes.io/part-of": "clip-moderation"}
    assert policy["ingress"] == [{"from": [{"podSelector": {"matchLabels": ours}}]}]
    for name, pod in pods():
        assert ours.items() <= pod["metadata"]["labels"].items(), name


# Ray's cluster launcher


def test_launcher_file_is_one_for_ray() -> None:
    # In a process of its own: Ray reads its environment when it is imported.
    program = (
        "import sys, yaml\n"
        "from ray.autoscaler._private.util import prepare_config, validate_config\n"
        "validate_config(prepare_config(yaml.safe_load(open(sys.argv[1]))))\n"
    )
    checked = subprocess.run(
        [sys.executable, "-c", program, DOCKER / "ray-cluster.yaml"], capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stderr


def test_launched_nodes_have_private_addresses_and_ask_for_the_token() -> None:
    cluster = documents(DOCKER / "ray-cluster.yaml")[0]
    assert cluster["provider"]["use_internal_ips"] is True
    for kind in cluster["available_node_types"].values():
        assert kind["node_config"]["SecurityGroupIds"], "the launcher's own group opens SSH to the world"
        assert kind["node_config"]["MetadataOptions"]["HttpTokens"] == "required"
    for commands in ("head_start_ray_commands", "worker_start_ray_commands"):
        starts = [command for command in cluster[commands] if "ray start" in command]
        assert starts
        assert all("RAY_AUTH_MODE=token ~/venv/bin/ray start" in command for command in starts)
    assert "/home/ubuntu/.ray/auth_token" in cluster["file_mounts"]


# The rights of docs/security.md


@pytest.fixture
def enforcing() -> Iterator[str]:
    """An S3 and IAM API that asks for rights, once it has been told to."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        for _ in range(600):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                break
            time.sleep(0.1)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.kill()
        server.wait()


EVERYTHING = """
from pathlib import Path
import sys
from moderation.errors import StorageError
from moderation.storage import Store

source, output = Store("s3://shop/uploads"), Store("s3://moderation/results")
source.check_readable()
output.check_writable()
item = next(source.list())[0]
assert source.read(item) == b"pixels"
assert not source.exists("gone.jpg"), "an object that is gone is told from one that is forbidden"
large = Path(sys.argv[1]) / "large"
large.write_bytes(bytes(12 << 20))
output.put("_staging/run/large", large)
output.copy("_staging/run/large", "decisions/large")
assert output.open("decisions/large").read(3) == bytes(3)
output.put("runs/run.json", b"{}", create_only=True)
output.delete_folder("_staging/")
for forbidden in (
    lambda: source.put("a.jpg", b"x"),
    lambda: source.delete(source.key_of(item.uri)),
    lambda: Store("s3://shop/private").get("key"),
    lambda: Store("s3://moderation/elsewhere").check_writable(),
):
    try:
        forbidden()
    except StorageError as error:
        assert error.code == "access_denied", error
    else:
        raise AssertionError("allowed")
"""


def test_rights_in_the_security_page_are_enough_and_no_more(enforcing: str, tmp_path: Path) -> None:
    import boto3

    found = [json.loads(text) for text in re.findall(r"```json\n(.*?)```", (ROOT / "docs/security.md").read_text(), re.DOTALL)]
    assert len(found) == 2
    root = {"endpoint_url": enforcing, "region_name": "us-east-1", "aws_access_key_id": "r", "aws_secret_access_key": "r"}
    s3, iam = boto3.client("s3", **root), boto3.client("iam", **root)
    for bucket in ("shop", "moderation"):
        s3.create_bucket(Bucket=bucket)
    s3.put_object(Bucket="shop", Key="uploads/1.jpg", Body=b"pixels")
    s3.put_object(Bucket="shop", Key="private/key", Body=b"secret")
    iam.create_user(UserName="moderation")
    for number, policy in enumerate(found):
        iam.put_user_policy(UserName="moderation", PolicyName=f"policy-{number}", PolicyDocument=json.dumps(policy))
    key = iam.create_access_key(UserName="moderation")["AccessKey"]
    enforce = urllib.request.Request(f"{enforcing}/moto-api/reset-auth", data=b"0", headers={"Content-Type": "text/plain"})  # noqa: S310
    urllib.request.urlopen(enforce).close()  # noqa: S310

    keys = {"AWS_ACCESS_KEY_ID": key["AccessKeyId"], "AWS_SECRET_ACCESS_KEY": key["SecretAccessKey"]}
    environment = {**os.environ, **keys, "AWS_ENDPOINT_URL": enforcing, "AWS_REGION": "us-east-1"}
    done = subprocess.run(
        [sys.executable, "-c", EVERYTHING, tmp_path], env=environment, capture_output=True, text=True, timeout=900, check=False
    )
    assert done.returncode == 0, done.stderr


# All of it


def test_docker_files_and_the_lock_name_the_same_version_of_ray() -> None:
    cluster = next(d for path in MANIFESTS for d in documents(path) if d["kind"] == "RayCluster")
    assert cluster["spec"]["rayVersion"] == locked("ray")
    # The image and the launcher take it from the lock, and name no version of their own.
    for path in (DOCKER / "Dockerfile", DOCKER / "install.sh", DOCKER / "ray-cluster.yaml"):
        assert not re.search(r"\bray(\[\w+])?[=<>~]=", path.read_text()), path.name
    assert "-c requirements.lock" in (DOCKER / "ray-cluster.yaml").read_text()
    assert "--constraints requirements.lock" in (DOCKER / "install.sh").read_text()


def test_images_of_the_program_have_its_version() -> None:
    version = re.search(r'^version = "(.*)"', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)[1]
    assert {container["image"] for container in containers()} == {f"registry.example.com/clip-moderation:{version}"}


@pytest.mark.parametrize(
    "path",
    [path for path in sorted(DOCKER.rglob("*")) if path.is_file() and path.name not in ("uv.txt", ".env")],
    ids=lambda path: path.relative_to(DOCKER).as_posix(),
)
def test_no_file_holds_a_secret(path: Path) -> None:
    assert not SECRET_TEXT.search(path.read_text())
