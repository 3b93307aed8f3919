"""`moderate actions` as users meet it: mistakes in the file, the first use, going live, status and retry, exit codes."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import jsonschema
import pytest
import yaml
from acted import GUN, IMAGES, publish_images, review
from places import ROOT
from webhook_receiver import KEY, Receiver, Reply, verified

from moderation import cli
from moderation.actions.acting import is_live
from moderation.actions.actions_file import parse_actions, read_actions, schema
from moderation.reviews.review import ReviewAction
from moderation.storage import Store


class Answer(NamedTuple):
    code: int
    out: str
    err: str


@pytest.fixture
def results(tmp_path: Path) -> str:
    publish_images(Store(str(tmp_path / "results")))
    return str(tmp_path / "results")


@pytest.fixture
def ask(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):  # type: ignore[no-untyped-def]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOOK_KEY", KEY)
    monkeypatch.setenv("COLUMNS", "200")

    def asked(*arguments: str) -> Answer:
        monkeypatch.setattr(sys, "argv", ["moderate", "actions", *arguments])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        shown = capsys.readouterr()
        code = ended.value.code
        return Answer(0 if code is None else int(code), shown.out, shown.err)

    return asked


def written(folder: Path, receiver: Receiver, more: str = "") -> str:
    text = f"""
targets:
  - name: trust
    actions: [block]
    webhook: {{url: "{receiver.url}", secret: {{env: HOOK_KEY}}, attempts: 1, connections: 1}}
{more}"""
    (folder / "actions.yaml").write_text(text)
    return str(folder / "actions.yaml")


def test_the_first_use_is_a_dry_run_that_says_how_to_go_live(results: str, tmp_path: Path, ask) -> None:  # type: ignore[no-untyped-def]
    with Receiver() as receiver:
        written(tmp_path, receiver)
        first = ask("run", "--results", results)
        assert first.code == 0
        assert "trust: dry run: would send 2 block; nothing was sent" in first.out
        assert f"  block  {GUN}" in first.out
        assert "Not live yet: trust. To send now, and in every later run: add --live --target trust" in first.out
        assert receiver.messages == []
        assert "not live yet" in ask("status", "--results", results).out

        assert "trust: delivered 2 (2 block new)" in ask("run", "--results", results, "--live").out
        assert len(receiver.messages) == 2
        assert all(verified(message) for message in receiver.messages)
        review(Store(results), IMAGES[0], ReviewAction.ALLOW)
        asked = ask("run", "--results", results, "--dry-run")
        assert "would send 1 allow; nothing was sent" in asked.out
        assert "Not live" not in asked.out
        assert "trust: delivered 1 (1 allow new)" in ask("run", "--results", results).out
        assert "trust: delivered 0 (nothing new)" in ask("run", "--results", results).out
        status = ask("status", "--results", results).out
        assert "trust (webhook): live" in status
        assert "delivered 3, waiting 0, refused 0" in status


def test_refusals_are_shown_and_retried_and_a_target_that_is_down_has_its_own_exit_code(  # type: ignore[no-untyped-def]
    results: str, tmp_path: Path, ask
) -> None:
    with Receiver(lambda number, message: Reply(422, body=b"no such listing")) as receiver:
        written(tmp_path, receiver)
        refused = ask("run", "--results", results, "--live")
        assert (refused.code, "trust: delivered 0, refused 2 (2 block new)" in refused.out) == (0, True)
        status = json.loads(ask("status", "--results", results, "--json").out)
        assert status[0]["refused"][0] == {
            "reason": "HTTP 422 Unprocessable Entity: no such listing",
            "deliveries": 2,
            "uris": ["s3://shop/gun.jpg", "s3://shop/nude.jpg"],
        }
        receiver.script = lambda number, message: Reply(429, {"Retry-After": "9999"})
        down = ask("retry", "--results", results, "--target", "trust")
        assert down.code == 3
        assert "given up for now: it asks to wait for 9999 s: HTTP 429 Too Many Requests: {}; the next run resumes" in down.out
        receiver.script = lambda number, message: Reply()
        assert "trust: delivered 2" in ask("retry", "--results", results).out, "what waits and what is refused"
        assert json.loads(ask("status", "--results", results, "--json").out)[0]["delivered"] == 2


MISTAKES = """targets:
  - name: Trust & Safety
    actions: [blok]
    webhook:
      url: ftp://example.com
      secret: hunter2hunter2
      timeout_s: 500
  - name: tags
    actions: []
    since: yesterday
    s3_tags:
      tags: {moderation: "{action.__class__}"}
  - name: both
    actions: [block]
    jsonl: {folder: "s3://key:hunter2hunter2@bucket/x"}
    webhok: {}
"""


def test_every_mistake_is_reported_at_once_with_its_place_and_no_secret(tmp_path: Path, ask) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "actions.yaml").write_text(MISTAKES)
    found = ask("check")
    assert found.code == 1
    for line in (
        "actions.yaml:2:11: `name` is not a valid name",
        "actions.yaml:3:15: `actions` should be block | review | allow",
        "did you mean `block`?",
        "actions.yaml:5:12: `url` should be a URL that begins with https://",
        "actions.yaml:6:15: `secret` should not be written here",
        "actions.yaml:7:18: `timeout_s` should be at most 120",
        "actions.yaml:9:14: `actions` should have at least one entry",
        "actions.yaml:10:12: `since` should be a date",
        "actions.yaml:12:13: `tags` has no field {action.__class__} to put in: there are action, rule",
        "actions.yaml:15:21: `folder` contains a user or a password before the @: keys come from the environment",
        "actions.yaml:16:5: unknown key `webhok`",
        "did you mean `webhook`?",
    ):
        assert line in found.out, line
    assert "hunter2" not in found.out + found.err
    assert "hunter2" not in ask("check", "--format", "json").out
    assert "::error file=actions.yaml,line=16,col=5" in ask("check", "--format", "github").out
    run = ask("run", "--results", "nowhere")
    assert run.code == 2
    assert "unknown key `webhok`" in run.err
    assert "hunter2" not in run.err


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the file is empty"),
        ("- a", "actions are a mapping of keys"),
        ("targets: [{name: a, actions: [block]}]", "should have one of webhook, s3_tags and jsonl, and has none"),
        (
            "targets: [{name: a, actions: [block], jsonl: {folder: x}, s3_tags: {tags: {a: b}}}]",
            "should have one of webhook, s3_tags and jsonl, and has s3_tags and jsonl",
        ),
        (
            "targets: [{name: a, actions: [block], jsonl: {folder: x}}, {name: a, actions: [block], jsonl: {folder: y}}]",
            "two targets are named a: each needs its own",
        ),
        (
            "targets: [{name: a, actions: [block], webhook: {url: 'https://u:p@x', secret: {env: A}}}]",
            "contains a user or a password",
        ),
        (
            "targets: [{name: a, actions: [block], webhook: {url: 'https://x', secret: {env: A, prefect_block: b}}}]",
            "`secret` should name one place",
        ),
        (
            "targets: [{name: a, actions: [block], webhook: {url: 'https://x', secret: {env: A}, headers: {Webhook-Id: "
            "{env: B}}}}]",
            "cannot set Webhook-Id: it belongs to the message itself",
        ),
        ("targets: [{name: a, actions: [block], s3_tags: {tags: {'aws:x': y}}}]", "cannot name a tag 'aws:x'"),
        ("targets: [{name: a, actions: [block], s3_tags: {tags: {x: 'a, b'}}}]", "a character in 'x' that S3 does not allow"),
        ("targets: [{name: a, actions: [block], s3_tags: {tags: {x: '{'}}}]", "has a brace without its partner in 'x'"),
    ],
)
def test_what_does_not_go_together_is_said(text: str, message: str) -> None:
    read = parse_actions(text)
    assert read.actions is None
    assert message in "\n".join(str(finding) for finding in read.findings)


def test_an_unencrypted_url_is_a_warning_and_missing_secrets_are_named(  # type: ignore[no-untyped-def]
    tmp_path: Path, ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = """
targets:
  - name: trust
    actions: [block]
    webhook: {url: "http://trust.internal/hook", secret: {env: NO_SUCH_KEY}}
  - name: short
    actions: [block]
    webhook: {url: "https://trust.internal/hook", secret: {env: SHORT_KEY}}
"""
    (tmp_path / "actions.yaml").write_text(text)
    monkeypatch.setenv("SHORT_KEY", "abc")
    found = ask("check")
    assert found.code == 0
    assert "warning: trust: messages are sent unencrypted" in found.out
    assert "warning: target trust: the environment variable NO_SUCH_KEY is not set" in found.out
    assert "a signing key has 3 bytes, and needs 24" in found.out
    assert "actions.yaml: 2 targets" in found.out


def test_a_missing_secret_stops_a_run_before_anything_is_written(results: str, tmp_path: Path, ask, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    with Receiver() as receiver:
        written(tmp_path, receiver)
        monkeypatch.delenv("HOOK_KEY")
        found = ask("run", "--results", results, "--live")
    assert found.code == 2
    assert "target trust: the environment variable HOOK_KEY is not set" in found.err
    assert not (Path(results) / "_actions").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("run", "--results", "R", "--target", "other"), "there is no target 'other': there are trust"),
        (("run", "--results", "R", "--live", "--dry-run"), "give --live or --dry-run, not both"),
        (("status", "--results", "ftp://x"), "cannot read"),
        (("run", "--results", "R", "--actions", "none.yaml"), "none.yaml:1:1: cannot read the actions: no such file"),
        (("run", "--results", "nothing-here", "--live"), "cannot read"),
    ],
)
def test_mistakes_are_one_line(arguments: tuple[str, ...], message: str, results: str, tmp_path: Path, ask) -> None:  # type: ignore[no-untyped-def]
    with Receiver() as receiver:
        written(tmp_path, receiver)
        found = ask(*(results if word == "R" else word for word in arguments))
    assert found.code == 2
    assert message in found.err
    assert "Traceback" not in found.err


def test_a_policy_that_the_results_do_not_have_is_named(results: str, tmp_path: Path, ask) -> None:  # type: ignore[no-untyped-def]
    with Receiver() as receiver:
        path = Path(written(tmp_path, receiver))
        path.write_text(path.read_text().replace("actions: [block]", "actions: [block]\n    policy: shopp"))
        found = ask("run", "--results", results)
    assert found.code == 2
    assert "target trust: no run is published of the policy 'shopp': did you mean shop?" in found.err


def test_the_schema_is_valid_describes_every_key_and_is_the_one_in_the_repository(ask) -> None:  # type: ignore[no-untyped-def]
    found = schema()
    jsonschema.Draft202012Validator.check_schema(found)
    assert json.loads(ask("schema").out) == found
    stored = json.loads((ROOT / "policies" / "actions.schema.json").read_text())
    assert stored == found, "run: moderate actions schema > policies/actions.schema.json"
    for kind in found["$defs"].values():
        for name, key in kind.get("properties", {}).items():
            assert key.get("description"), name
    page = (ROOT / "docs" / "actions.md").read_text()
    keys = {name for kind in found["$defs"].values() for name in kind.get("properties", {})}
    assert [key for key in sorted(keys) if f"`{key}`" not in page] == []


def test_the_schema_accepts_the_example_and_rejects_mistakes() -> None:
    validator = jsonschema.Draft202012Validator(schema())
    text = (ROOT / "policies" / "actions.yaml").read_text()
    read = read_actions(ROOT / "policies" / "actions.yaml")
    assert (read.findings, read.warnings) == ((), ())
    everything = text.replace("\n  # - ", "\n  - ").replace("\n  #   ", "\n    ")
    assert parse_actions(everything).actions is not None, "the commented targets are valid, too"
    assert list(validator.iter_errors(yaml.safe_load(everything))) == []
    for wrong in (
        {},
        {"targets": []},
        {"targets": [{"name": "a", "actions": ["block"]}]},
        {"targets": [{"name": "a", "action": []}]},
    ):
        assert list(validator.iter_errors(wrong)) != []


def test_ctrl_c_while_sending_keeps_what_was_delivered(results: str, tmp_path: Path) -> None:
    import signal
    import threading

    second = threading.Event()

    def hanging(number: int, message: dict) -> Reply:  # type: ignore[type-arg]
        if number == 1:
            second.set()
        return Reply(fault="hang") if number else Reply()

    with Receiver(hanging) as receiver:
        path = written(tmp_path, receiver)
        command = [
            sys.executable,
            "-m",
            "moderation.entry",
            "actions",
            "run",
            "--results",
            results,
            "--actions",
            path,
            "--live",
        ]
        process = subprocess.Popen(
            [sys.executable, "-c", "from moderation.entry import main; main()", *command[3:]],
            env={**os.environ, "HOOK_KEY": KEY},
            stderr=subprocess.PIPE,
            text=True,
        )
        assert second.wait(60)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
        assert process.returncode == 130
        assert "Traceback" not in err
        from moderation.actions.outbox import load

        assert load(Store(results), "trust").delivered == 1
        assert is_live(Store(results), "trust"), "the next run resumes"
