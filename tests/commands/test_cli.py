"""The command as users meet it: a process of its own, real exit codes, what stands on the screen."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import boto3
import pytest

from moderation.demo import IMAGES_DIR, POLICY_FILE
from moderation.results.manifest import published_manifests
from moderation.storage import Store

MODERATE = [sys.executable, "-m", "moderation.cli"]


@pytest.fixture
def environment(prefect_home: Path) -> dict[str, str]:
    return {**os.environ, "PREFECT_HOME": str(prefect_home), "COLUMNS": "120"}


def moderate(*arguments: str, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*MODERATE, *arguments], capture_output=True, text=True, env=env, check=False, timeout=900)


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    for path in sorted((IMAGES_DIR / "listings").iterdir())[:4]:
        shutil.copy(path, folder)
    return folder


def write(path: Path, text: str) -> str:
    path.write_text(text)
    return str(path)


@pytest.mark.parametrize("command", [[], ["run"], ["demo"], ["version"]])
def test_help_says_what_a_command_does(command: list[str], environment: dict[str, str]) -> None:
    found = moderate(*command, "--help", env=environment)
    assert found.returncode == 0
    assert "Usage: moderate" in found.stdout
    assert len(found.stdout.splitlines()) > 6


def test_mistakes_are_one_clear_line_and_leave_nothing_behind(
    images: Path, tmp_path: Path, environment: dict[str, str], s3_endpoint: str
) -> None:
    client = boto3.client("s3")
    client.create_bucket(Bucket="cli-bucket")
    client.put_object(Bucket="cli-bucket", Key="images/a.jpg", Body=b"x")
    environment |= {name: value for name, value in os.environ.items() if name.startswith("AWS_")}
    source, policy, output = str(images), str(POLICY_FILE), str(tmp_path / "new" / "out")
    blocked = write(tmp_path / "a-file", "")
    no_keys = {k: v for k, v in environment.items() if not k.startswith("AWS_") or k == "AWS_ENDPOINT_URL"}
    no_keys |= {"AWS_EC2_METADATA_DISABLED": "true", "HOME": str(tmp_path)}
    cases = [
        ([source + "-typo", policy, output], ["images-typo", "No such file"]),
        ([str(images / "nothing"), policy, output], ["nothing"]),
        ([str(next(images.iterdir())), policy, output], ["is a file", "folder"]),
        ([source, policy + "x", output], ["cannot read the policy", "no such file"]),
        ([source, policy, f"{blocked}/out"], ["cannot write to the output", "a-file"]),
        ([source, policy, "/proc/out"], ["cannot write to the output"]),
        ([source, policy, str(images / "out")], ["inside the source"]),
        (["s3://no-such-bucket/x", policy, output], ["'no-such-bucket' does not exist"]),
        (["s3://cli-bucket/typo", policy, output], ["no objects under s3://cli-bucket/typo"]),
        (["ftp://host/x", policy, output], ["ftp://host/x", "s3://"]),
        ([source, policy, "s3://no-such-bucket/x"], ["'no-such-bucket' does not exist"]),
        ([source, policy, output, "--batch-size", "0"], ["--batch-size", "greater than 0"]),
        ([source, policy, output, "--run-id", "../x"], ["--run-id"]),
    ]
    before = sorted(tmp_path.rglob("*"))
    for (given_source, given_policy, given_output, *more), expected in cases:
        found = moderate("run", given_source, "-p", given_policy, "-o", given_output, *more, env=environment)
        assert found.returncode == 2, (given_source, found.stderr)
        assert found.stdout == ""
        assert len(found.stderr.strip().splitlines()) == 1, found.stderr
        assert found.stderr.startswith("error: ")
        for text in expected:
            assert text in found.stderr
    found = moderate("run", "s3://cli-bucket/images", "-p", policy, "-o", output, env=no_keys)
    assert (found.returncode, len(found.stderr.splitlines())) == (2, 1)
    assert "AWS_PROFILE" in found.stderr
    assert sorted(tmp_path.rglob("*")) == before
    assert client.list_objects_v2(Bucket="cli-bucket")["KeyCount"] == 1


def test_a_mistake_in_the_policy_is_shown_at_its_place(images: Path, tmp_path: Path, environment: dict[str, str]) -> None:
    policy = write(tmp_path / "bad.yaml", POLICY_FILE.read_text() + "\nrulez: []\n")
    found = moderate("run", str(images), "-p", policy, "-o", str(tmp_path / "out"), env=environment)
    first, *more = found.stderr.splitlines()
    assert found.returncode == 2
    assert first.startswith(f"error: {policy}:")
    assert first.endswith(": unknown key `rulez`")
    assert more[0].endswith("| rulez: []")
    assert more[2].strip().startswith("did you mean `rules`?")
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_an_unknown_model_is_one_clear_line(images: Path, tmp_path: Path, environment: dict[str, str]) -> None:
    policy = write(tmp_path / "p.yaml", POLICY_FILE.read_text().replace("name: demo", "name: VIT-B-33"))
    found = moderate("run", str(images), "-p", policy, "-o", str(tmp_path / "out"), env=environment)
    assert found.returncode == 2
    assert "unknown model 'VIT-B-33': did you mean ViT-B-32" in found.stderr
    assert "Traceback" not in found.stdout + found.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_control_c_stops_cleanly_and_the_run_can_be_resumed(tmp_path: Path, environment: dict[str, str]) -> None:
    command = [*MODERATE, "run", str(IMAGES_DIR), "-p", str(POLICY_FILE), "-o", str(tmp_path / "out"), "--run-id", "mine"]
    running = subprocess.Popen(
        [*command, "--batch-size", "8", "--shard-size", "16"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        start_new_session=True,
    )
    deadline = time.monotonic() + 120
    while not (tmp_path / "out" / "_staging" / "mine" / "receipts").is_dir():
        assert running.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    os.kill(running.pid, signal.SIGINT)
    out, err = running.communicate(timeout=60)
    assert running.returncode == 130, err
    assert "--run-id mine" in err
    assert "Traceback" not in out + err
    assert list(published_manifests(Store(str(tmp_path / "out")))) == []
    assert (tmp_path / "out" / "_staging" / "mine" / "receipts").is_dir()


def test_the_demo_shows_the_table_and_where_everything_lies(tmp_path: Path, environment: dict[str, str]) -> None:
    found = moderate("demo", "--output", str(tmp_path / "out"), env=environment)
    assert found.returncode == 0, found.stderr
    for text in (
        "listed",
        "scored",
        "errored",
        "corrupt",
        "blocked",
        "to review",
        "by rules",
        "unreadable",
        "precision",
        "recall",
        "weapons",
    ):
        assert text in found.stdout
    values = dict(
        line.split(maxsplit=1) for line in found.stdout.splitlines() if line.startswith(("decisions", "manifest", "report"))
    )
    assert all(Path(value.removeprefix("file://")).exists() for value in values.values())
    assert set(values) == {"decisions", "manifest", "report"}
    assert "moderate run" in found.stdout


def test_output_in_another_encoding_shows_every_text() -> None:
    """A pipe in an old locale, or a console of Windows, may have no word for what a policy holds."""
    policy = "policy: p\nmodel: {name: demo}\ncontrast: [a tree]\nrules:\n  - {id: a, prompts: [“паук” → 🕷], review: 0.5}\n"
    script = "import sys; from moderation.cli import main; main()"
    for encoding in ("latin-1", "ascii"):
        environment = {**os.environ, "PYTHONIOENCODING": encoding, "COLUMNS": "80"}
        for command in ("show", "check"):
            with tempfile.NamedTemporaryFile("w", suffix=".yaml", encoding="utf-8") as file:
                file.write(policy.replace("“", "").replace("”", ""))
                file.flush()
                found = subprocess.run(
                    [sys.executable, "-c", script, "policy", command, file.name],
                    capture_output=True,
                    env=environment,
                    check=False,
                )
            assert (found.returncode, found.stderr) == (0, b""), found.stderr.decode()
            assert b"\\u043f" in found.stdout
            assert b"->" in found.stdout
