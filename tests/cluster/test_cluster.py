"""Running on a Ray cluster of several nodes, which have the libraries and not this program."""

import contextlib
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from places import MODULE_FOLDERS
from raylets import NodeSpec, RayCluster, bare_python, free_port, ray_cluster_of

from moderation import RunSettings
from moderation.cluster.sizing import Machine, decode_threads, divide
from moderation.errors import SettingsError


def settings(**values: object) -> RunSettings:
    return RunSettings(sources="s3://a/b", policy="p.yaml", output="s3://c/d", **values)


def plan(*machines: tuple[float, float], **values: object) -> tuple[int, float, float]:
    made = divide([Machine(*machine) for machine in machines], settings(**values))
    return made.actors, made.cpus, made.gpus


@pytest.mark.parametrize(
    ("machines", "values", "expected"),
    [
        ([(8, 1)], {}, (1, 8, 1)),
        ([(16, 2)], {"gpus_per_actor": 0.25}, (8, 2, 0.25)),
        ([(8, 2)], {"gpus_per_actor": 0.4}, (4, 2, 0.4)),  # two on each, 0.2 of each stays free
        ([(9, 1), (9, 1)], {"gpus_per_actor": 1 / 3}, (6, 3, 1 / 3)),
        ([(16, 0), (4, 1), (4, 1)], {}, (2, 4, 1)),  # an actor needs its cores where its GPU is
        ([(0, 0), (32, 4), (8, 4)], {}, (8, 2, 1)),
        ([(64, 8)], {"actors": 1}, (1, 64, 1)),
        ([(64, 8), (64, 8)], {"actors": 2}, (2, 32, 1)),  # Ray may put both on one
        ([(64, 8)], {"device": "cpu"}, (8, 8, 0)),
        ([(2, 0)], {}, (1, 2, 0)),
        ([(12, 0)], {}, (1, 12, 0)),
        ([(4, 0), (4, 0)], {}, (2, 4, 0)),
        ([(0, 0), (4, 0)], {}, (1, 4, 0)),
        ([(2, 0), (16, 0)], {}, (2, 8, 0)),  # one with two cores each on nine actors would be nine models in memory
        ([(2, 0)], {"actors": 4}, (4, 0.5, 0)),
        ([(3, 0), (3, 0)], {"actors": 3}, (3, 1, 0)),
        ([], {}, (1, 1, 0)),
    ],
)
def test_a_plan_fits_machine_by_machine(
    machines: list[tuple[float, float]], values: dict[str, object], expected: tuple[int, float, float]
) -> None:
    assert plan(*machines, **values) == expected


@pytest.mark.parametrize(
    ("machines", "values", "message"),
    [
        (
            [(8, 2)],
            {"gpus_per_actor": 0.4, "actors": 5},
            "5 actors with 0.4 GPU each do not fit on 2 GPUs, 2 on each: use at most 4",
        ),
        ([(8, 0)], {"device": "cuda"}, "has no GPU"),
        ([(8, 0)], {"jpeg_decoder": "gpu"}, "the Ray cluster has no GPU: use `--jpeg-decoder cpu`"),
        ([(8, 1)], {"jpeg_decoder": "gpu", "device": "cpu"}, "the actors have no GPU with device `cpu`"),
    ],
)
def test_a_plan_that_the_cluster_has_no_room_for_is_refused(
    machines: list[tuple[float, float]], values: dict[str, object], message: str
) -> None:
    with pytest.raises(SettingsError, match=message):
        plan(*machines, **values)


def test_gpus_of_several_kinds_need_a_precision_by_name():
    """What `auto` means must not depend on which machine is the first to load the model."""
    mixed = [Machine(16, 1, "A100"), Machine(16, 1, "T4")]
    with pytest.raises(SettingsError, match=r"GPUs of several kinds \(A100, T4\), .* `--precision bf16` or `--precision fp32`"):
        divide(mixed, settings())
    assert divide(mixed, settings(precision="bf16")).actors == 2
    assert divide([mixed[0], mixed[0]], settings()).actors == 2
    assert divide([*mixed, Machine(8, 0)], settings(device="cpu")).gpus == 0


def test_a_gpu_that_decodes_is_given_many_files_at_a_time() -> None:
    on_gpu = divide([Machine(16, 1)], settings(jpeg_decoder="gpu"))
    assert decode_threads(settings(jpeg_decoder="gpu"), on_gpu) == 64
    assert decode_threads(settings(jpeg_decoder="gpu", decode_threads=20), on_gpu) == 20
    assert decode_threads(settings(), on_gpu) == 16


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> str:
    return bare_python(tmp_path_factory.mktemp("bare") / "v")


@pytest.fixture(scope="module")
def cluster(python: str, s3_endpoint: str) -> Iterator[RayCluster]:
    """A head without GPUs and a node that says it has two."""
    tests = {"PYTHONPATH": os.pathsep.join(MODULE_FOLDERS), "HF_HUB_OFFLINE": "1"}
    head, node = NodeSpec(1, 0, python), NodeSpec(2, 2, python)
    with ray_cluster_of(head, node, environment=tests, client_server=True) as cluster:
        yield cluster


def drive(script: str, *arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    """A driver of its own, that finds no Ray in its environment but what it is told."""
    command = [sys.executable, "-c", script, *map(str, arguments)]
    clean = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    return subprocess.run(command, capture_output=True, text=True, env=clean | environment, check=False, timeout=180)


@pytest.fixture
def address(cluster: RayCluster, request: pytest.FixtureRequest) -> str:
    return cluster.client_address if request.param == "client" else cluster.address


both = pytest.mark.parametrize("address", ["direct", "client"], indirect=True)

WHERE = """
import sys
from pathlib import Path
import ray
from moderation.cluster.session import ray_session, plan_pool
from moderation.cluster.slots import Slot
from moderation.settings import RunSettings

def look():
    import moderation
    from moderation.demo import MODEL_DIR, IMAGES_DIR
    weights = MODEL_DIR / "open_clip_model.safetensors"
    return ray.get_runtime_context().get_node_id(), moderation.__file__, weights.is_file(), IMAGES_DIR.exists()

class Looking:
    def __call__(self): return self
    def describe(self, texts): return look(), ray.get_gpu_ids()

with ray_session(sys.argv[1]):
    plan = plan_pool(RunSettings(sources="s3://a/b", policy="p", output="s3://c/d", gpus_per_actor=0.5))
    gpus = {n["NodeID"]: n["Resources"].get("GPU", 0) for n in ray.nodes()}
    looks = ray.get([ray.remote(look).options(num_cpus=0).remote() for _ in range(4)])
    slots = [Slot(Looking(), plan) for _ in range(plan.actors)]
    said = ray.get([slot.actor.describe.remote([]) for slot in slots])
    looks += [one for one, _ in said]
    print("plan:", plan)
    print("actors on nodes with GPUs:", {gpus[one[0]] for one, _ in said}, sorted(int(gpu) for _, [gpu] in said))
    print("GPUs left:", ray.available_resources().get("GPU", 0.0))
    print("sent:", {"runtime_resources" in file for _, file, *_ in looks})
    print("model:", {there for *_, there, _ in looks}, "images:", {there for *_, there in looks})
"""


@both
@pytest.mark.slow
def test_code_travels_and_actors_land_where_the_gpus_are(cluster: RayCluster, address: str) -> None:
    driver = drive(WHERE, address, **cluster.environment)
    assert driver.returncode == 0, driver.stderr
    assert driver.stdout.splitlines() == [
        "plan: 4 actors with 0.5 CPU cores and 0.5 GPU each",
        "actors on nodes with GPUs: {2.0} [0, 0, 1, 1]",
        "GPUs left: 0.0",
        "sent: {True}",
        "model: {True} images: {False}",
    ]


MODERATE = """
from moderation.cli import main
from moderation.cluster import planning_processes

planning_processes.SHORT = 0  # even 40 images are listed and planned on the cluster
main()
"""
POLICY = """
policy: cluster
model: {name: demo}
contrast: [a wall]
rules:
  - {id: dogs, prompts: [dog face], review: 0.9}
"""


def moderate(
    address: str, source: str, output: str, policy: Path, cluster: RayCluster, home: Path, *options: str, **environment: str
) -> subprocess.CompletedProcess[str]:
    policy.write_text(POLICY)
    told = ["run", source, "-p", policy, "-o", output, "--device", "cpu", "--ray-address", address, *options]
    return drive(MODERATE, *told, **{"PREFECT_HOME": str(home), **cluster.environment, **environment})


@pytest.mark.slow
@both
def test_a_run_on_a_cluster_publishes_all_objects(
    cluster: RayCluster, address: str, demo_images: Path, prefect_home: Path, s3_endpoint: str, tmp_path: Path
) -> None:
    import boto3

    client, bucket = boto3.client("s3"), f"cluster-{secrets.token_hex(4)}"
    client.create_bucket(Bucket=bucket)
    for path in sorted(path for path in demo_images.rglob("*") if path.is_file())[:40]:
        client.put_object(Bucket=bucket, Key=f"in/{path.name}", Body=path.read_bytes())
    done = moderate(address, f"s3://{bucket}/in", f"s3://{bucket}/out", tmp_path / "p.yaml", cluster, prefect_home)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "40" in done.stdout
    assert "a-secret-that-must-not-leak" not in done.stdout + done.stderr
    assert cluster.token not in done.stdout + done.stderr


IN_TURN = """
import os, sys
import ray
from moderation.errors import UserError
from moderation.cluster.session import ray_session

def token():
    return os.environ["RAY_AUTH_TOKEN"]

def use(address):
    before = dict(os.environ)
    with ray_session(address):
        seen = ray.get(ray.remote(token).options(num_cpus=0).remote())
    names = [name for name in before | dict(os.environ) if name.startswith("RAY_")]
    changed = {name for name in names if before.get(name) != os.environ.get(name)}
    assert changed <= {"RAY_USAGE_STATS_ENABLED", "RAY_CLIENT_MODE"}, changed
    return seen

theirs, address = os.environ["RAY_AUTH_TOKEN"], sys.argv[1]
own, joined, again = use(None), use(address), use(None)
print(joined == theirs, len({own, joined, again}))
del os.environ["RAY_AUTH_TOKEN"], os.environ["RAY_AUTH_MODE"]
other = use(None)
try:
    use(address)
except UserError as error:
    print(error)
"""


def test_a_ray_of_its_own_has_a_token_of_its_own_and_leaves_the_users_alone(cluster: RayCluster) -> None:
    driver = drive(IN_TURN, cluster.address, **cluster.environment)
    assert driver.returncode == 0, driver.stderr
    assert driver.stdout.splitlines() == ["True 3", f"the Ray cluster at {cluster.address} {REFUSED}"]


REFUSED = "requires a token: set RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH to the token of the cluster"
NO_CLIENT_SERVER = (
    "Ray's client server does not answer there: its port is 10001 unless the head was given another, and RAY_AUTH_MODE and "
    "RAY_AUTH_TOKEN must be those of the cluster"
)


JOIN = """
import sys
from moderation.errors import ModerationError
from moderation.cluster.session import ray_session
try:
    with ray_session(sys.argv[1]):
        print("joined")
except ModerationError as error:
    print("error:", error)
    sys.exit(error.exit_code)
"""


@both
@pytest.mark.slow
@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({}, f"the Ray cluster at ADDRESS {REFUSED}"),
        (
            {"RAY_AUTH_MODE": "token", "HOME": "/nonexistent"},
            "RAY_AUTH_MODE is `token` but there is no token: set RAY_AUTH_TOKEN, or RAY_AUTH_TOKEN_PATH, "
            "to the token of the Ray cluster at ADDRESS",
        ),
        (
            {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "0" * 64},
            "the Ray cluster at ADDRESS refuses the token of RAY_AUTH_TOKEN: use the token of its nodes",
        ),
    ],
)
def test_who_has_no_token_is_refused_in_one_line(address: str, environment: dict[str, str], message: str) -> None:
    driver = drive(JOIN, address, **environment)
    if address.startswith("ray://") and " and there is none" not in message:
        message = f"cannot join the Ray cluster at ADDRESS: {NO_CLIENT_SERVER}"  # it does not say why it refuses
    assert driver.returncode == 2
    assert driver.stderr == ""
    assert driver.stdout == f"error: {message}\n".replace("ADDRESS", address)


@pytest.mark.slow
def test_the_command_refuses_a_missing_token_in_one_line(
    cluster: RayCluster, demo_images: Path, prefect_home: Path, tmp_path: Path
) -> None:
    policy = tmp_path / "p.yaml"
    policy.write_text(POLICY)
    told = ["run", demo_images, "-p", policy, "-o", tmp_path / "out", "--ray-address", cluster.address]
    driver = drive(MODERATE, *told, PREFECT_HOME=str(prefect_home))
    assert driver.returncode == 2
    assert driver.stderr.splitlines()[-1] == f"error: the Ray cluster at {cluster.address} {REFUSED}"
    assert "Traceback" not in driver.stderr


@pytest.mark.parametrize("address", ["127.0.0.1", "http://head:8265", "ray://", "ray://head", "head:port", "[", " "])
def test_a_malformed_cluster_address_is_refused(address: str) -> None:
    from moderation.cluster.joining import join

    with pytest.raises(SettingsError) as refused:
        join(address)
    assert str(refused.value) == f"the address of a Ray cluster is host:6379, ray://host:10001 or auto, not {address!r}"


@pytest.mark.parametrize("form", ["127.0.0.1:{}", "ray://127.0.0.1:{}"])
def test_an_address_where_no_cluster_answers_is_refused(form: str) -> None:
    from moderation.cluster.joining import join

    address = form.format(free_port())
    with pytest.raises(SettingsError, match=f"no Ray cluster answers at {address}: .*refused"):
        join(address)


DESCRIBE = """
import sys
from moderation.cluster.nodes import describe_cluster
facts = describe_cluster(sys.argv[1])
import ray
print(len(facts.nodes), facts.cpus, facts.gpus, {n.asks_for_token for n in facts.nodes}, ray.is_initialized())
print({name for node in facts.nodes for name, version in node.versions.items() if version is None})
"""


@both
@pytest.mark.slow
def test_a_cluster_is_described_without_sending_anything(cluster: RayCluster, address: str) -> None:
    driver = drive(DESCRIBE, address, **cluster.environment)
    assert driver.stdout.splitlines() == ["2 3.0 2.0 {True} False", "set()"], driver.stderr


SEARCHED = """
import os, sys
import ray
from moderation.cluster.joining import join
join(sys.argv[1], with_code=sys.argv[2] == "with code")
print(os.getcwd() in ray.get(ray.remote(lambda: sys.path).options(num_cpus=0).remote()))
"""


@pytest.mark.slow
def test_nodes_search_no_folder_of_the_driver_for_modules(cluster: RayCluster) -> None:
    proxies = {"http_proxy": "http://127.0.0.1:9", "RAY_grpc_enable_http_proxy": "0"}
    for code in ("with code", "without"):
        driver = drive(SEARCHED, cluster.address, code, **cluster.environment, **proxies)
        assert driver.stdout == "False\n", driver.stderr


@pytest.mark.slow
def test_libraries_that_differ_are_found_before_anything_is_scored(python: str, tmp_path: Path) -> None:
    for name, version in (("torch", "2.1.0"), ("pillow", "12.9+x"), ("pyarrow", "1.0")):
        info = tmp_path / f"{name}-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    other = NodeSpec(1, 1, python, {"PYTHONPATH": str(tmp_path)})
    with ray_cluster_of(NodeSpec(1, 0, python), other) as cluster:
        driver = drive(JOIN, cluster.address, **cluster.environment)
        assert driver.returncode == 2, driver.stderr
        assert driver.stdout.startswith(f"error: the Ray cluster at {cluster.address} does not fit: node ")
        assert "has torch 2.1.0 (here: " in driver.stdout
        assert "has pillow 12.9+x (here: " in driver.stdout
        assert driver.stdout.endswith(": install the same everywhere\n")
        [warning] = driver.stderr.splitlines()
        assert "has pyarrow 1.0 (here: " in warning

        said = drive(OTHER_PYTHON, cluster.address, **cluster.environment)
        told = drive(JOIN, cluster.address, **cluster.environment)
        assert told.returncode == 2, said.stderr
        assert told.stderr == ""
        assert told.stdout.startswith("error: The cluster was started with: Ray: 2.0.0 Python: 3.8.1 at 127.0.0.1:")
        assert told.stdout.endswith("install the cluster's versions of both here\n")


OTHER_PYTHON = """
import json, sys
from ray import _raylet
client = _raylet.GcsClient(address=sys.argv[1])
from ray._common.usage.usage_constants import CLUSTER_METADATA_KEY
from ray._private.ray_constants import KV_NAMESPACE_CLUSTER
facts = json.loads(client.internal_kv_get(CLUSTER_METADATA_KEY, KV_NAMESPACE_CLUSTER))
facts |= {"ray_version": "2.0.0", "python_version": "3.8.1"}
client.internal_kv_put(CLUSTER_METADATA_KEY, json.dumps(facts).encode(), True, KV_NAMESPACE_CLUSTER)
"""

FOLDERS = """
import sys
from moderation.errors import SettingsError
from moderation.cluster.nodes import check_folders
from moderation.cluster.session import ray_session
address, output, *sources = sys.argv[1:]
with ray_session(address):
    for source in sources:
        try:
            check_folders([source, "s3://bucket/x"], output)
            print("seen")
        except SettingsError as error:
            print(error)
"""


@pytest.mark.slow
def test_a_folder_that_other_nodes_do_not_have_is_refused(cluster: RayCluster, tmp_path: Path) -> None:
    source, output = tmp_path / "in" / "deep", tmp_path / "out"
    source.mkdir(parents=True)
    for number in range(5):
        (source / f"{number}.jpg").write_bytes(b"x" * number)
    own = "/proc/self/cwd/moderation"  # another one for each process
    arguments = [cluster.address, output, f"file://{source.parent}", f"file://{source}/1.jpg", f"file://{own}"]
    driver = drive(FOLDERS, *arguments, **cluster.environment)
    seen, file, alone = driver.stdout.splitlines()
    assert (seen, file) == ("seen", "seen")
    assert alone.startswith(f"the source file://{own} is not what node ")
    assert "of the Ray cluster has there, nor 1 more: use object storage (s3:// ...), or a file system that all" in alone
    assert not output.exists()


BUSY = """
import sys, time
from pathlib import Path
import ray
from poisoned import Poisoned, score_all, unscored
from moderation.errors import ModerationError
from moderation.cluster.pool import ScorerPool
from moderation.cluster.sizing import PoolPlan
from moderation.cluster.session import ray_session

address, notes, doing = sys.argv[1], Path(sys.argv[2]), sys.argv[3]
try:
    with ray_session(address, "r-17"), ScorerPool(Poisoned(notes), PoolPlan(2, 1.0, 0.0), 120) as pool:
        (notes / "ready").touch()
        if doing == "scoring":
            pool.describe([])
            (notes / "scoring").touch()
            outcome = score_all([f"slow-{i}" for i in range(40)], pool, batch_size=2)
            print("scored", len(outcome), "lost", unscored(outcome))
        else:
            time.sleep(4)
            score_all(["late"], pool)
except ModerationError as error:
    print("error:", error)
    sys.exit(error.exit_code)
"""


@contextlib.contextmanager
def begun(cluster: RayCluster, address: str, notes: Path, doing: str) -> Iterator[subprocess.Popen[str]]:
    """A driver that is under way."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    command = [sys.executable, "-c", BUSY, address, str(notes), doing]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, env=clean | cluster.environment, stdout=pipe, stderr=pipe, text=True) as driver:
        try:
            deadline = time.monotonic() + 120
            while not (notes / "ready").exists() or (doing == "scoring" and not (notes / "scoring").exists()):
                assert driver.poll() is None, driver.communicate()
                assert time.monotonic() < deadline
                time.sleep(0.2)
            yield driver
        finally:
            driver.kill()


@pytest.fixture
def small(python: str) -> Iterator[RayCluster]:
    """A cluster to be broken."""
    tests = {"PYTHONPATH": os.pathsep.join(MODULE_FOLDERS)}
    health = {"RAY_health_check_period_ms": "500", "RAY_health_check_failure_threshold": "3"}
    node = NodeSpec(1, 0, python)
    with ray_cluster_of(node, node, environment=tests | health, client_server=True) as cluster:
        yield cluster


@pytest.mark.slow
@pytest.mark.parametrize("way", ["direct", "client"])
def test_when_a_node_is_lost_only_its_batches_are_scored_again(small: RayCluster, way: str, tmp_path: Path) -> None:
    address = small.client_address if way == "client" else small.address
    with begun(small, address, tmp_path, "scoring") as driver:
        time.sleep(4)
        small.nodes[1].kill()
        said, complaints = driver.communicate(timeout=240)
    assert "scored 40 lost {}" in said.splitlines(), complaints  # among what Ray tells of the node


@pytest.mark.slow
@pytest.mark.parametrize(
    ("way", "doing", "reason"),
    [
        ("direct", "scoring", "Ray on this machine died (its raylet ended)"),
        ("direct", "something else for a while", "Ray on this machine died (its raylet ended)"),
        ("client", "scoring", "the Ray cluster is gone (the connection to the cluster is lost)"),
    ],
)
def test_a_driver_that_loses_its_cluster_says_so(small: RayCluster, way: str, doing: str, reason: str, tmp_path: Path) -> None:
    address = small.client_address if way == "client" else small.address
    with begun(small, address, tmp_path, doing) as driver:
        if way == "client":
            small.head.kill()
        else:
            os.kill(small.head.pid, signal.SIGKILL)
        said, complaints = driver.communicate(timeout=120)
    assert driver.returncode == 1, complaints
    lines = [line for line in said.splitlines() if line.startswith("error:")]
    assert lines == [f"error: {reason}: completed work is kept; resume with --run-id r-17"], said + complaints
    assert "Traceback" not in complaints
