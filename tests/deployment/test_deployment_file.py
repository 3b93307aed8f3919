"""prefect.yaml and `moderate deploy --check`: what is there is well, and what is wrong is told at once, at its place."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from deployed import ROOT

from flows.deploying import MODELS
from moderation.commands.deploy import deploy
from moderation.common.secrets import SCHEMA_PATTERN, redacted, secret_in, without_secret
from moderation.deployment.checks import check_deployments
from moderation.deployment.file import read_deployments
from moderation.errors import SettingsError

FILE = ROOT / "prefect.yaml"

GOOD = """
definitions:
  sources: &sources [{source}]
  notify: [slack-webhook/moderation]
deployments:
  - name: nightly
    entrypoint: flows/moderate.py:moderate
    parameters: {{settings: {{sources: *sources, policy: {policy}, output: {output}}}, when_busy: wait}}
    schedules: [{{cron: "0 2 * * *", timezone: UTC}}]
    work_pool: {{name: moderation}}
  - name: of-somebody-else
    entrypoint: other.py:flow
    work_pool: {{name: moderation}}
"""


@pytest.fixture
def good(tmp_path: Path) -> str:
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "1.jpg").write_bytes(b"x")
    policy = "policy: p\nmodel: {name: demo}\nrules: [{id: a, prompts: [a gun], review: 0.5}]\ncontrast: [x]\n"
    (tmp_path / "policy.yaml").write_text(policy)
    (tmp_path / "flows").symlink_to(ROOT / "flows")
    (tmp_path / "other.py").write_text("def flow(): ...\n")
    return GOOD.format(source="images", policy="policy.yaml", output="out")


def checked(tmp_path: Path, text: str) -> tuple[list[str], list[str]]:
    """What is well, and what is wrong: without the lines of the file."""
    (tmp_path / "prefect.yaml").write_text(text)
    checks = check_deployments(read_deployments(tmp_path / "prefect.yaml"), MODELS)
    wrong = [f"{Path(found.file).name}:{found.line}: {found.message}" for found in checks.findings]
    return [f"{row.deployment} {row.what}" for row in checks.checked], wrong


def test_the_file_of_the_repository_is_ready_as_it_stands(capsys: pytest.CaptureFixture[str]) -> None:
    deploy(check=True, file=FILE, offline=True)
    shown = capsys.readouterr()
    assert shown.err == ""
    assert all(
        name in shown.out
        for name in ("nightly", "hourly", "policy-backtest", "action-files (jsonl)", "with conditional writes", "is ready")
    )
    file = read_deployments(FILE)
    assert [d.name for d in file.deployments] == ["nightly", "hourly", "policy-backtest", "act"]
    assert {d.entrypoint for d in file.deployments} == set(MODELS)


def test_what_is_edited_stands_in_one_block_and_nowhere_else() -> None:
    text = FILE.read_text()
    block = text.partition("edit from here")[2].partition("to here")[0]
    below = text.partition("to here")[2]
    anchors = {word.strip("&") for word in block.split() if word.startswith("&")}
    assert anchors >= {"sources", "policy", "results", "work_pool", "timezone", "nightly_at", "hourly_every_s", "environment"}
    assert all(f"*{name}" in below for name in anchors - {"notify"})
    assert "s3://" not in below
    assert "/" not in below.replace("flows/", "").partition("deployments:")[2].replace("T00:30:00+00:00", "")


def test_a_valid_deployment_file_passes_and_leaves_nothing_behind(tmp_path: Path, good: str) -> None:
    well, wrong = checked(tmp_path, good)
    assert wrong == []
    assert well == [
        "nightly settings",
        "nightly policy",
        "nightly sources",
        "nightly output",
        "nightly Ray",
        "of-somebody-else flow",
    ]
    assert not [
        path
        for path in tmp_path.rglob("*")
        if path.is_file() and path.name not in ("1.jpg", "policy.yaml", "other.py", "prefect.yaml")
    ]


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("output:", "outptu: x, output:", ["prefect.yaml:8: nightly: unknown setting `outptu`"]),
        ("policy: policy.yaml", "policy: none.yaml", ["8: cannot read the policy 'none.yaml': no such file or directory"]),
        ("policy: policy.yaml, ", "", ["prefect.yaml:8: nightly: the setting `policy` is missing"]),
        ("[images]", "[nowhere]", ["prefect.yaml:3: cannot list the source 'nowhere'"]),
        ("output: out", "output: images/out", ["the output file://", "is inside the source"]),
        ("output: out", "output: out, batch_size: many", ["prefect.yaml:8: nightly: `batch_size` should be a valid integer"]),
        ("output: out", "output: out, ray_address: '127.0.0.1:1'", ["prefect.yaml:8: no Ray cluster answers at 127.0.0.1:1"]),
        ("when_busy: wait", "when_busy: maybe", ["prefect.yaml:8: `when_busy` should be wait or cancel, not 'maybe'"]),
        ("{name: moderation}", "{}", ["prefect.yaml:10: names no work pool"]),
        ("name: of-somebody-else", "name: nightly", ["two deployments are named 'nightly'"]),
        ("[slack-webhook/moderation]", "[slack]", ["prefect.yaml:4: `notify` names 'slack', which is not a block"]),
        ("deployments:", "deploymens:", ["there are no deployments"]),
        ("- name: nightly", "- name: nightly\n   x: [", ["prefect.yaml:7: this line is indented by 3 spaces"]),
    ],
)
def test_a_mistake_is_reported_with_its_line_and_column(tmp_path: Path, good: str, old: str, new: str, told: list[str]) -> None:
    assert old in good
    wrong = " | ".join(checked(tmp_path, good.replace(old, new, 1))[1])
    assert [words for words in told if words not in wrong] == [], wrong


def test_every_mistake_is_reported_at_once_with_exit_code_2(tmp_path: Path, good: str) -> None:
    text = good.replace("[images]", "[nowhere]").replace("policy.yaml", "none.yaml").replace("0 2 * * *", "61 2 * * *")
    (tmp_path / "prefect.yaml").write_text(text)
    with pytest.raises(SettingsError, match=r"3 findings in .*: nothing was deployed") as error:
        deploy(check=True, file=tmp_path / "prefect.yaml", offline=True)
    assert error.value.exit_code == 2
    with pytest.raises(SettingsError, match=r"cannot read the deployments .*no such file"):
        deploy(check=True, file=tmp_path / "none", offline=True)
    with pytest.raises(SettingsError, match="--offline needs --check"):
        deploy(file=tmp_path / "prefect.yaml", offline=True)


def test_mistakes_in_a_deployed_policy_are_reported_at_their_lines(tmp_path: Path, good: str) -> None:
    (tmp_path / "policy.yaml").write_text("policy: p\nmodel: {name: demo}\nrulez: []\n")
    _, wrong = checked(tmp_path, good)
    assert any(line.startswith("policy.yaml:3: unknown key `rulez`") for line in wrong), wrong


ACT = """
  - name: act
    entrypoint: flows/act.py:act
    parameters: {settings: {results: out, actions: actions.yaml}}
    work_pool: {name: moderation}
"""


@pytest.mark.parametrize(
    ("settings", "text", "told"),
    [
        ("", "jsonl: {folder: x}", ""),
        ("", "jsonl: {foldr: x}", "actions.yaml:1: unknown key `foldr`"),
        ("", "webhook: {url: 'https://x', secret: {env: NO_SUCH}}", ""),
        (", targets: [other]", "jsonl: {folder: x}", "prefect.yaml:16: there is no target 'other': there are a"),
        (", livee: true", "jsonl: {folder: x}", "prefect.yaml:16: act: unknown setting `livee`"),
    ],
)
def test_what_a_deployment_that_acts_names_is_checked(tmp_path: Path, good: str, settings: str, text: str, told: str) -> None:
    (tmp_path / "actions.yaml").write_text(f"targets: [{{name: a, actions: [block], {text}}}]\n")
    well, wrong = checked(tmp_path, good + ACT.lstrip("\n").replace("actions.yaml", f"actions.yaml{settings}"))
    assert [line for line in wrong if told in line] if told else wrong == [], wrong
    assert told or {"act settings", "act targets", "act results"} <= set(well)


@pytest.mark.parametrize(
    ("variables", "told"),
    [
        ("{env: {AWS_SECRET_ACCESS_KEY: abc}}", "looks like a secret"),
        ("{env: {X: '{{ prefect.blocks.secret.s3-key }}'}}", "stores its content as plain text"),
        ("{env: {RAY_AUTH_TOKEN: '{{ $RAY_AUTH_TOKEN }}'}}", "looks like a secret"),
        ("{env: {RAY_AUTH_TOKEN_PATH: /etc/ray/token, AWS_PROFILE: moderation}}", ""),
    ],
)
def test_secrets_are_kept_out_of_the_file(tmp_path: Path, good: str, variables: str, told: str) -> None:
    _, wrong = checked(tmp_path, good.replace("{name: moderation}", f"{{name: moderation, job_variables: {variables}}}", 1))
    assert bool(wrong) == bool(told)
    assert told in " ".join(wrong)
    assert "abc" not in " ".join(wrong)


SIGNED = "https://b.example/k.jpg?X-Amz-Credential=AKIA0&X-Amz-Signature=5ecret"


@pytest.mark.parametrize(
    ("location", "found"),
    [
        ("s3://AKIA0:5ecret@bucket/prefix", "before the @"),
        (SIGNED, "signature"),
        ("az://box/k?sv=2026&sig=5ecret", "signature"),
        ("gs://bucket/k?X-Goog-Signature=5ecret", "signature"),
        ("s3://bucket/what?.jpg", None),
        ("s3://bucket/a@b/c.jpg", None),
        ("/folder/me:you@home/x", None),
    ],
)
def test_secrets_in_locations_are_seen_and_redacted(location: str, found: str | None) -> None:
    assert bool(re.search(SCHEMA_PATTERN, location)) == (found is None)
    assert "5ecret" not in redacted(f"cannot read {location!r}: gone")
    if found is None:
        assert secret_in(location) is None
        assert redacted(location) == without_secret(location) == location
    else:
        assert found in str(secret_in(location))
        with pytest.raises(ValueError, match="keys come from the environment") as refused:
            without_secret(location)
        assert "5ecret" not in str(refused.value)


def test_the_checks_run_without_prefect() -> None:
    code = "import moderation.deployment.checks, sys; sys.exit('prefect' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0
