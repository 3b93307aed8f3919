"""What is computed never depends on how busy the machine is: neither bits, nor rows, nor what a run says of its speed."""

import contextlib
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image
from support import make_policy, save_tiny_clip

from moderation import ImageScorer, ModelError, OpenClipEncoder, RunSettings, Store, run
from moderation.cluster.worker import OpenClipScorer
from moderation.common.progress import Pace, Progress
from moderation.demo import IMAGES_DIR, POLICY_FILE
from moderation.images.limits import ImageLimits
from moderation.policy.compiled import CompiledPolicy, prompt_texts
from moderation.policy.model_choice import ModelChoice
from moderation.records import Batch
from moderation.results.read_run import read_decisions, read_scores
from moderation.scoring.judging import RowContext
from moderation.scoring.options import ScorerOptions
from moderation.sources import ObjectReader

LISTINGS = sorted(path for path in (IMAGES_DIR / "listings").iterdir() if path.is_file())


@contextlib.contextmanager
def busy(processes=3):
    """A machine whose cores others want."""
    others = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(processes)]
    try:
        time.sleep(0.5)
        yield
    finally:
        for other in others:
            other.kill()
            other.wait()


def result():
    """Everything that a worker would decide and store, from loading the model on."""
    encoder = OpenClipEncoder("demo", device="cpu")
    engine = encoder.fit()
    with ImageScorer(encoder, make_policy({}, {}), ScorerOptions(limits=ImageLimits(max_seconds=2))) as scorer:
        rows = scorer.score(LISTINGS[:6])
    embeddings, decisions = (
        table.sort_by("uri").drop_columns([name for name in ("scored_at",) if name in table.column_names])
        for table in (rows.embeddings, rows.decisions)
    )
    return (str(engine), engine.why, encoder.fingerprint), embeddings.to_pylist(), decisions.to_pylist()


def test_a_busy_machine_chooses_the_same_engine_and_gives_the_same_bits():
    idle = result()
    with busy():
        assert result() == idle
    assert idle[0][1].endswith("auto is fp32 on CPUs; auto is eager")


@pytest.mark.slow
@pytest.mark.usefixtures("ray_cluster")
def test_a_run_on_a_busy_machine_publishes_the_same(tmp_path):
    source = tmp_path / "images"
    source.mkdir()
    for path in LISTINGS[:16]:
        (source / path.name).write_bytes(path.read_bytes())
    found = []
    for name, load in (("idle", contextlib.nullcontext()), ("busy", busy())):
        with load:
            manifest = run(RunSettings(sources=str(source), policy=str(POLICY_FILE), output=str(tmp_path / name))).manifest
        output = Store(str(tmp_path / name))
        scores = read_scores(output, manifest).sort_by([("uri", "ascending"), ("rule", "ascending")])
        decisions = read_decisions(output, manifest).sort_by("uri").select(["uri", "action", "top_score", "error_code"])
        found.append(
            (manifest.model_fingerprint, manifest.engine, scores.drop_columns(["run_id"]).to_pylist(), decisions.to_pylist())
        )
    assert found[0] == found[1]
    assert found[0][1].why


# --- machines of a cluster that differ -------------------------------------------------------------------------------------


def test_a_machine_with_other_weights_at_the_same_path_stops_the_run(tmp_path):
    folder = tmp_path / "model"
    save_tiny_clip(folder, seed=1)
    Image.fromarray(np.zeros((64, 64, 3), np.uint8)).save(tmp_path / "black.png")
    policy = make_policy({}, model={"name": f"local-dir:{folder}"})
    scorer = OpenClipScorer(
        model=ModelChoice(name=f"local-dir:{folder}"),
        reader=ObjectReader(manifests=True, local_files=True),
        device="cpu",
        precision="auto",
        options=ScorerOptions(fetch_threads=1, decode_threads=1),
        torch_threads=1,
    )
    first = scorer()
    model = first.describe(prompt_texts(policy))
    context = RowContext("run", CompiledPolicy.build(policy, model.head), model.name, model.fingerprint, model.engine)
    batch = Batch("shard", (Store(str(tmp_path)).head("black.png"),))
    assert first.score(batch, context).summary.counts.scored == 1
    save_tiny_clip(folder, seed=2)
    with pytest.raises(ModelError, match=f"the run uses {model.fingerprint}, .* put the same weights .* on each machine"):
        scorer().score(batch, context)


# --- what a run says of its speed ------------------------------------------------------------------------------------------


def test_images_of_an_earlier_attempt_do_not_count_in_the_throughput(monkeypatch):
    now = [100.0]
    monkeypatch.setattr("moderation.common.progress.time.monotonic", lambda: now[0])
    pace = Pace()
    pace.describe(Progress("scoring", planned=2000, done=0))
    now[0] += 10
    said = pace.describe(Progress("scoring", planned=2000, done=1100, earlier=1000))
    assert said == "1,100 of 2,000: 10 images/s, 0 errors, 0:01:30 left"
