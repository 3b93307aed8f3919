"""The pool under attacks that take their time, or take Ray with them: those have a driver process of their own."""

import os
import secrets
import subprocess
import sys
import time
from pathlib import Path

import pytest
from poisoned import Poisoned, score_all, starts, unscored

from moderation.cluster.pool import ScorerPool
from moderation.cluster.session import PoolPlan
from moderation.errors import WorkerStormError

pytestmark = pytest.mark.slow


def drive(script: str, *arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", script, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env=os.environ | environment, check=False, timeout=240)


def test_two_poison_images_among_2000_cost_half_a_minute_at_most(ray_cluster: None, tmp_path: Path) -> None:
    names = [f"{i:04}" for i in range(2_000)]
    poisoned = names.copy()
    poisoned[700], poisoned[1500] = "segfault", "hang"
    seconds, outcomes = [], []
    for these in (names, poisoned):
        began = time.monotonic()
        with ScorerPool(Poisoned(tmp_path), PoolPlan(2, 0.5, 0.0), 5.0) as pool:
            outcomes.append(unscored(score_all(these, pool, batch_size=256)))
        seconds.append(time.monotonic() - began)
    assert outcomes[0] == {}
    assert {name: code.partition(":")[0] for name, code in outcomes[1].items()} == {
        "segfault": "worker_killed",
        "hang": "worker_timeout",
    }
    assert seconds[1] - seconds[0] <= 30
    assert starts(tmp_path) <= 2 + 2 + 4 + 3


def test_many_images_that_kill_workers_do_not_stop_the_run(ray_cluster: None, tmp_path: Path) -> None:
    names = [f"{i:03}" for i in range(300)]
    names[100:140] = poison = [f"exit-{i:02}" for i in range(40)]
    with ScorerPool(Poisoned(tmp_path), PoolPlan(2, 0.5, 0.0), 60) as pool:
        outcome = unscored(score_all(names, pool, batch_size=256))
    assert sorted(outcome) == poison
    assert {code.partition(":")[0] for code in outcome.values()} == {"worker_killed"}


def test_a_run_stops_if_its_actors_never_start(ray_cluster: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("moderation.cluster.slots.LOADING_LIMIT_S", 20.0)
    monkeypatch.setattr("moderation.cluster.isolation.STORM", 1)
    pool = ScorerPool(Poisoned(tmp_path, "reload for ever"), PoolPlan(1, 0.5, 0.0), 60)
    with pool, pytest.raises(WorkerStormError, match="failed 2 times in a row"):
        score_all(["exit"], pool)


DOOMED = """
import os, sys, threading, time
from pathlib import Path
import numpy as np, ray
from ray._private import worker
from poisoned import Poisoned, score_all
from moderation.errors import RunError
from moderation.cluster import tasks
from moderation.cluster.pool import ScorerPool
from moderation.cluster.session import PoolPlan, ray_session

notes, victim, stage = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
try:
    with ray_session(None), ScorerPool(Poisoned(notes), PoolPlan(1, 0.5, 0.0), 600) as pool:
        held = [ray.put(np.zeros(1 << 20)), pool.describe(["a thing"])]
        [process] = worker._global_node.all_processes[victim]
        threading.Timer(3.0, os.kill, (process.process.pid, 9)).start()
        began = time.monotonic()
        if stage == "scoring":
            score_all([f"slow-{i}" for i in range(1000)], pool, batch_size=1)
        else:
            tasks.result(tasks._remote(lambda: time.sleep(300)))
except RunError as error:
    print(f"after {time.monotonic() - began:.0f} s: {error}")
    sys.exit(error.exit_code)
"""


@pytest.mark.parametrize("stage", ["scoring", "writing"])
@pytest.mark.parametrize("victim", ["raylet", "gcs_server"])
def test_when_ray_dies_the_run_ends_and_says_so(tmp_path: Path, victim: str, stage: str) -> None:
    began = time.monotonic()
    driver = drive(DOOMED, tmp_path, victim, stage)
    assert driver.returncode == 1
    assert f"Ray on this machine died (its {victim} ended with code -9)" in driver.stdout
    assert "--run-id" in driver.stdout
    assert "Traceback" not in driver.stderr
    assert time.monotonic() - began < 60


HUNGRY = """
import sys
from pathlib import Path
from poisoned import Poisoned, score_all, unscored
from moderation.cluster.pool import ScorerPool
from moderation.cluster.session import PoolPlan, ray_session

with ray_session(None), ScorerPool(Poisoned(Path(sys.argv[1])), PoolPlan(1, 0.5, 0.0), 120) as pool:
    names = [*"abcdefgh", "eat", *"ijklmno"]
    print("rows:", unscored(score_all(names, pool, batch_size=16)))
"""


def test_an_image_that_eats_memory_is_isolated(tmp_path: Path) -> None:
    lines = Path("/proc/meminfo").read_text().splitlines()
    memory = {name: int(rest.split()[0]) << 10 for name, rest in (line.split(":") for line in lines)}
    used, allowed = memory["MemTotal"] - memory["MemAvailable"], 2 << 30
    threshold = (used + allowed) / memory["MemTotal"]
    driver = drive(HUNGRY, tmp_path, RAY_memory_usage_threshold=f"{threshold:.3f}")
    assert driver.stdout.count("rows: ") == 1
    assert "{'eat': 'worker_killed: the worker ran out of memory, twice" in driver.stdout
    assert starts(tmp_path) <= 6


LOSSY = """
import sys
from pathlib import Path
import ray
from ray.cluster_utils import Cluster
from poisoned import DIM, POLICY, Poisoned, context_of, shard_of
from moderation.planning.sharding import batches
from moderation.results.paths import RunPaths
from moderation.cluster import tasks
from moderation.cluster.pool import ScorerPool
from moderation.cluster.session import PoolPlan
from moderation.storage import Store

notes = Path(sys.argv[1])
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
away = cluster.add_node(num_cpus=1)
ray.init(cluster.address, log_to_driver=False, logging_level="error")
shard, paths, output = shard_of([str(i) for i in range(5000)]), RunPaths("r", "2026-11-21", "f"), Store(str(notes / "out"))

def scored():
    return [scored.rows for scored in pool.score(iter(batches(shard, 2500)), context)]

def written(rows):
    reference = tasks.start_writing(shard, rows, POLICY, DIM, paths, output)
    [done], _ = tasks.finished([reference], block=True)
    return tasks.result(done).objects

with ScorerPool(Poisoned(notes), PoolPlan(1, 0.5, 0.0), 60) as pool:
    context = context_of(pool)
    rows = scored()
    cluster.add_node(num_cpus=1)
    cluster.remove_node(away, allow_graceful=False)
    try:
        written(rows)
    except tasks.RowsLost:
        print("lost")
    print("objects:", written(scored()))
ray.shutdown()
cluster.shutdown()
"""


def test_rows_lost_with_a_machine_are_recognised_and_scored_again(tmp_path: Path) -> None:
    token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    driver = drive(LOSSY, tmp_path, **token, RAY_health_check_period_ms="500", RAY_health_check_failure_threshold="3")
    said = driver.stdout.splitlines()
    assert "lost" in said, driver.stderr
    assert "objects: 5000" in said, driver.stderr
