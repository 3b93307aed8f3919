"""How fast the studio answers over a million decisions, and what memory it takes: `python -m benchmarks.studio`.

Synthetic embeddings in shards of 20,000 with their scores and decisions under 20 rules, published as the pipeline stores them;
the model is a ViT-B/32 of random weights, whose text tower costs as much as a trained one's. Then `moderate studio` as a
process, asked over HTTP as its pages ask. The prompt of each measurement is new: its embedding is computed, and all stored
images are scored.
"""

import argparse
import http.client
import json
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import numpy as np
import open_clip

from benchmarks.figures import Figure, emit
from benchmarks.random_models import save_model
from moderation.model.open_clip_encoder import OpenClipEncoder
from moderation.policy.compiled import CompiledPolicy, TextHead, prompt_texts
from moderation.policy.schema import Policy
from moderation.policy_files.loading import parse_policy
from moderation.records import BatchSummary, ObjectRef
from moderation.results.manifest import Manifest, Timings
from moderation.results.paths import RunPaths
from moderation.results.schemas import Table
from moderation.results.shard_files import FileEntry, total, write_rows
from moderation.results.stored_prompts import keep_prompts, prompts_key, read_prompts
from moderation.scoring.decision_rows import Embedded, build_rows
from moderation.scoring.judging import RowContext
from moderation.storage import Store

IMAGES, SOME, SHARD, RULES, PROCESSES = 1_000_000, 200_000, 20_000, 20, 2
BEGAN = datetime(2026, 11, 1, 3, tzinfo=UTC)
RUN = "20261101T030000Z-000000"
LINK = re.compile(r"http://127\.0\.0\.1:(\d+)/\?token=(\S+)")


def policy_text(model: str, prompt: str = "a thing 0") -> str:
    """20 rules with two prompts each, and ten contrasts of all. `prompt` is one of the first rule's."""
    rules = "".join(
        f"  - {{id: rule-{n}, mode: {'shadow' if n == 0 else 'live'}, "
        f"prompts: [{prompt if n == 1 else f'a thing {2 * n}'}, a thing {2 * n + 1}], review: 0.05, block: 0.2}}\n"
        for n in range(RULES)
    )
    contrast = ", ".join(f"a wall {n}" for n in range(10))
    return f"policy: measured\nmodel: {{name: '{model}'}}\ntemplates: ['{{}}']\ncontrast: [{contrast}]\nrules:\n{rules}"


def a_model(folder: Path) -> str:
    """A ViT-B/32 of random weights in a folder. Returns its name."""
    config = open_clip.get_model_config("ViT-B-32")
    preprocessing = {
        "size": 224,
        "mean": [0.48, 0.46, 0.41],
        "std": [0.27, 0.26, 0.28],
        "interpolation": "bicubic",
        "resize_mode": "shortest",
    }
    return save_model(open_clip.create_model("ViT-B-32"), folder, config, preprocessing)


@dataclass(frozen=True)
class Job:
    """What the processes that write shards need."""

    folder: Path
    text: str
    fingerprint: str
    prompts: str

    @property
    def paths(self) -> RunPaths:
        """Of the run."""
        return RunPaths(RUN, "2026-11-01", self.fingerprint)


def write_shard(job: Job, number: int) -> tuple[list[FileEntry], BatchSummary]:
    """One shard as a run publishes it."""
    policy = parse_policy(job.text)
    head = read_prompts(Store(str(job.folder)), job.prompts)
    compiled = CompiledPolicy.build(policy, head)
    random = np.random.default_rng(number)
    vectors = random.standard_normal((SHARD, compiled.weights.shape[1]), np.float32)
    liked = random.integers(0, len(compiled.weights), SHARD)
    vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True) + compiled.weights[liked].astype(
        np.float32
    ) * random.random((SHARD, 1), np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    refs = [
        ObjectRef(f"s3://shop/uploads/2026/11/{n // 1000:06}/{n:09}.jpg", f"{n:032x}", 50_000, BEGAN)
        for n in range(number * SHARD, (number + 1) * SHARD)
    ]
    embedded = [Embedded(ref, f"{at:064x}", "JPEG", 640, 480, 1, (0,), None, 0) for at, ref in enumerate(refs)]
    context = RowContext(RUN, compiled, "measured", job.fingerprint)
    rows = build_rows(context, embedded, vectors.astype(np.float16), [], BEGAN)
    tables: tuple[tuple[Table, Any], ...] = (
        ("decisions", rows.decisions),
        ("scores", rows.scores),
        ("embeddings", rows.embeddings),
    )
    return [_write(job, table, content, f"{number:06}") for table, content in tables], rows.summary


def _write(job: Job, table: Table, rows: Any, name: str) -> FileEntry:
    key = job.paths.published(table, name)
    path = job.folder / key
    path.parent.mkdir(parents=True, exist_ok=True)
    write_rows(table, rows, path)
    return FileEntry(table=table, path=key, rows=len(rows), bytes=path.stat().st_size)


def write_results(folder: Path, images: int, model: str) -> None:
    """A published run of so many images."""
    text = policy_text(model)
    policy: Policy = parse_policy(text)
    encoder = OpenClipEncoder.of(policy.model, device="cpu")
    texts = prompt_texts(policy)
    output = Store(str(folder))
    vectors = encoder.encode_texts(texts)
    keep_prompts(
        output, encoder.fingerprint, TextHead(dict(zip(texts, vectors, strict=True)), encoder.logit_scale, encoder.logit_bias)
    )
    job = Job(folder, text, encoder.fingerprint, prompts_key(encoder.fingerprint, texts))
    shards = range(images // SHARD)
    with ProcessPoolExecutor(PROCESSES) as pool:
        written = list(pool.map(write_shard, [job] * len(shards), shards))
    counts = total(summary for _, summary in written).counts
    manifest = Manifest(
        run_id=RUN,
        started_at=BEGAN,
        published_at=BEGAN,
        sources=("s3://shop/uploads",),
        policy=policy.policy,
        policy_version=policy.version,
        policy_hash=policy.hash,
        policy_text=text,
        model=policy.model.label,
        model_fingerprint=encoder.fingerprint,
        device="cpu",
        settings={"resize": encoder.preprocessing.resize},
        listed=images,
        unchanged=0,
        counts=counts,
        timings=Timings(wall_seconds=1.0, images_per_second=1.0, busy_seconds={}, bottleneck="decode"),
        checks=(),
        versions={},
        report=job.paths.report,
        files=tuple(entry for files, _ in written for entry in files),
    )
    output.put(job.paths.manifest, manifest.to_json(), create_only=True)


class Client:
    """A browser, as far as its requests go."""

    def __init__(self, port: int, token: str) -> None:
        self._port = port
        answer, _ = self.timed("GET", f"/?token={token}")
        self._cookie = answer.headers["set-cookie"].split(";")[0]
        page, self.home_s = self.timed("GET", "/")
        found = re.search(r'name="csrf" content="([^"]+)"', page.body.decode())
        if found is None:
            raise RuntimeError("the first page has no key for writes")
        self._csrf = found[1]

    _cookie = _csrf = ""

    def timed(self, method: str, path: str, body: object = None) -> "tuple[Answer, float]":
        """An answer, and the seconds until all of it was here."""
        began = time.monotonic()
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=300)
        origin = f"http://127.0.0.1:{self._port}"
        headers = {"Cookie": self._cookie, "X-CSRF-Token": self._csrf, "Origin": origin, "Accept": "text/html"}
        connection.request(method, path, None if body is None else json.dumps(body).encode(), headers)
        response = connection.getresponse()
        answer = Answer(response.status, dict(response.headers.items()), response.read())
        connection.close()
        if answer.status != 200:
            raise RuntimeError(f"{method} {path}: {answer.status} {answer.body[:300]!r}")
        return answer, time.monotonic() - began

    def drafted(self, text: str) -> tuple[dict[str, Any], float]:
        """The effect of a policy's text, and the seconds until it is there, asking as the page asks."""
        began = time.monotonic()
        while True:
            found: dict[str, Any] = json.loads(self.timed("POST", "/policy/0/draft", {"text": text})[0].body)
            if found["state"] == "ready":
                return found, time.monotonic() - began
            if found["state"] != "working":
                raise RuntimeError(str(found))
            time.sleep(0.05)


@dataclass(frozen=True)
class Answer:
    """What the server said."""

    status: int
    headers: dict[str, str]
    body: bytes


@contextmanager
def a_studio(results: Path, policy: Path) -> "Iterator[tuple[Client, subprocess.Popen[str]]]":
    """A studio, as a process of its own."""
    command = [
        sys.executable,
        "-m",
        "moderation.cli",
        "studio",
        "--results",
        str(results),
        "--policy",
        str(policy),
        "--no-browser",
    ]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        found = LINK.search((process.stdout.readline() if process.stdout else "") or "")
        if found is None:
            raise RuntimeError("the studio did not start")
        yield Client(int(found[1]), found[2]), process
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(30)


def peak_mb(pid: int) -> float:
    """The most memory that a process had, and each of those that it started, added up, in MB."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return sum(_high_water(int(one)) for one in (pid, *children)) / 1024


def _high_water(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))


FILTERS: tuple[dict[str, str], ...] = (
    {"action": "block"},
    {"rule": "rule-3"},
    {"rule": "rule-4", "low": "0.04", "high": "0.06", "sort": "nearest"},
    {"prefix": "s3://shop/uploads/2026/11/000042/"},
    {"sort": "highest", "action": "review"},
    {"rule": "rule-3", "sort": "lowest", "since": "2026-11-01"},
)


def measure(results: Path, policy: Path, model: str, runs: int) -> tuple[dict[str, list[float]], float]:
    """Seconds of each thing, and the memory in MB."""
    found: dict[str, list[float]] = {"first": [], "gallery": [], "filter": [], "drag": [], "prompt": [], "load": []}
    with a_studio(results, policy) as (client, process):
        found["first"].append(client.home_s)
        began = time.monotonic()
        while b'name="rule"' not in client.timed("GET", "/gallery")[0].body:
            time.sleep(0.05)
        found["gallery"].append(time.monotonic() - began)
        for _ in range(runs):
            found["filter"] += [client.timed("GET", f"/gallery?{urlencode(one)}")[1] for one in FILTERS]
        text = policy_text(model)
        drafted, seconds = client.drafted(text)
        found["load"].append(seconds)
        for step in range(20 * runs):
            body = {"key": drafted["key"], "rule": f"rule-{1 + step // 10 % 5}", "review": 0.03 + step / 1000, "block": 0.3}
            found["drag"].append(client.timed("POST", "/policy/0/moved", body)[1])
        client.drafted(policy_text(model, "warming up"))  # loads the model
        for n in range(runs):
            found["prompt"].append(client.drafted(policy_text(model, f"a new thing {n}"))[1])
        return found, peak_mb(process.pid)


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=IMAGES, help="decisions (%(default)s)")
    parser.add_argument("--runs", type=int, default=5, help="how often to repeat (%(default)s)")
    parser.add_argument("--keep", type=Path, help="a folder for what is written; used again if it is there")
    given = parser.parse_args()
    some = min(SOME, given.images)
    with tempfile.TemporaryDirectory(prefix="studio-benchmark-") as scratch:
        folder = given.keep or Path(scratch)
        model = f"local-dir:{folder / 'model'}"
        if not (folder / "model").exists():
            a_model(folder / "model")
        for size in sorted({given.images, some}):
            if not (folder / str(size)).exists():
                write_results(folder / str(size), size, model)
        policy = folder / "policy.yaml"
        policy.write_text(policy_text(model))
        large, memory = measure(folder / str(given.images), policy, model, given.runs)
        small = large if some == given.images else measure(folder / str(some), policy, model, given.runs)[0]
    what = f"{given.images:,} decisions, {RULES} rules"
    drag = sorted(large["drag"])
    emit(
        [
            Figure.of(
                "studio_first_page_s", large["first"], "s", 2, lower_is_better=True, note=f"{what}; a server just started"
            ),
            Figure.of(
                "studio_gallery_cold_s",
                large["gallery"],
                "s",
                None,
                lower_is_better=True,
                note=f"{what}; the gallery right after that",
            ),
            Figure.of(
                "studio_filter_s",
                large["filter"],
                "s",
                1,
                lower_is_better=True,
                note=f"{what}; {len(FILTERS)} filters, the slowest is the maximum",
            ),
            Figure.of(
                "studio_drag_ms",
                [1000 * s for s in drag],
                "ms",
                100,
                lower_is_better=True,
                note=f"{what}; each step of a slider, over HTTP",
            ),
            Figure.of(
                "studio_prompt_200k_s",
                small["prompt"],
                "s",
                2,
                lower_is_better=True,
                note=f"{some:,} images of 512 dimensions; ViT-B/32's text tower",
            ),
            Figure.of(
                "studio_prompt_all_s", large["prompt"], "s", None, lower_is_better=True, note=f"{what}; in the background"
            ),
            Figure.of(
                "studio_load_s", large["load"], "s", None, lower_is_better=True, note=f"{what}; the policy page's first effect"
            ),
            Figure.of(
                "studio_rss_mb",
                [memory],
                "MB",
                4096,
                lower_is_better=True,
                note=f"{what}; the server and its processes, all at their peak",
            ),
        ]
    )


if __name__ == "__main__":
    main()
