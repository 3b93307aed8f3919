"""Every action arrives, signed, once for each image and in its order, whatever the receiver and the network do."""

import json
import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest
from acted import (
    BROKEN,
    FACE,
    GUN,
    IMAGES,
    KNIFE,
    NUDE,
    POLICY,
    QUICK,
    blocked,
    publish_images,
    quick,
    review,
    target,
    webhook,
)
from certificates import make_authority
from places import DOCS
from published import POLICY_TEXT
from vector_results import Image, publish_vectors
from webhook_receiver import KEY, Receiver, Reply, verified

from moderation.actions import acting
from moderation.actions.acting import act_on, rehearse, retry_refused
from moderation.actions.dispatch import Patience
from moderation.actions.outbox import load
from moderation.actions.standing import standing
from moderation.policy_files.loading import parse_policy
from moderation.reviews.review import ReviewAction
from moderation.storage import Store

NEXT_RUN = "20261122T030000Z-abcdef"


@pytest.fixture
def output(tmp_path: Path) -> Store:
    found = Store(str(tmp_path / "results"))
    publish_images(found, broken=[BROKEN])
    return found


def many(tmp_path: Path, count: int) -> Store:
    found = Store(str(tmp_path / "results"))
    publish_images(found, blocked(count))
    return found


def test_a_message_says_what_was_decided_and_why_and_is_signed(output: Store) -> None:
    with Receiver() as receiver:
        acted = act_on(output, webhook(receiver, "actions: [block, review]"), quick())
    assert (acted.delivered, acted.parked, acted.waiting, acted.stopped) == (4, 0, 0, "")
    assert receiver.actions() == {GUN: ["block"], NUDE: ["block"], KNIFE: ["review"], BROKEN: ["review"]}
    assert all(verified(message) for message in receiver.messages)
    (message,) = [message for message in receiver.messages if message.uri == GUN]
    content = message.content
    assert message.headers["idempotency-key"] == message.headers["webhook-id"] == content["id"]
    assert abs(int(message.headers["webhook-timestamp"]) - datetime.now(UTC).timestamp()) < 300
    assert content["item"] == {"uri": GUN, "etag": "v1", "sha256": IMAGES[0].sha256}
    assert (content["action"], content["previous_action"], content["change"]) == ("block", None, 1)
    assert (content["decided_by"], content["reviewer"], content["machine_action"]) == ("machine", None, "block")
    assert content["rules"] == ["firearms"]
    assert content["scores"] == [{"rule": "firearms", "score": 0.875, "action": "block", "threshold": 0.75}]
    assert content["policy"] == {"name": "shop", "version": "1", "hash": POLICY.hash}
    assert content["run_id"]


def test_a_signature_of_another_key_or_body_is_recognized(output: Store) -> None:
    with Receiver() as receiver:
        act_on(output, webhook(receiver), quick())
    message = receiver.messages[0]
    assert verified(message)
    assert not verified(message, "whsec_" + "QUJD" * 8)
    assert not verified(replace(message, body=message.body.replace(b"block", b"allow")))
    assert not verified(replace(message, headers={**message.headers, "webhook-timestamp": "1"}))


def test_the_receiver_of_the_documentation_verifies_messages(output: Store) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", (DOCS / "actions.md").read_text(), re.DOTALL)
    names: dict[str, Any] = {}
    exec(code, names)  # noqa: S102
    with Receiver() as receiver:
        act_on(output, webhook(receiver), quick())
    message = receiver.messages[0]
    assert names["verified"](message.headers, message.body, KEY)
    assert not names["verified"](message.headers, message.body + b" ", KEY)
    assert not names["verified"]({**message.headers, "webhook-timestamp": "1"}, message.body, KEY)


def test_two_keys_sign_while_keys_change(output: Store) -> None:
    other = "whsec_" + "QUJD" * 8
    with Receiver() as receiver:
        both = target(
            f"{{name: trust, actions: [block], webhook: {{url: '{receiver.url}', secret: {{env: NEW}}, "
            "previous_secret: {env: OLD}, headers: {Authorization: {env: TOKEN}}}}"
        )
        values = {"NEW": KEY, "OLD": other, "TOKEN": "Bearer abc"}
        act_on(output, both, replace(quick(), resolve=lambda secret: values[secret.env or ""]))
    assert all(verified(message) and verified(message, other) for message in receiver.messages)
    assert {message.headers["authorization"] for message in receiver.messages} == {"Bearer abc"}


def test_nothing_is_sent_twice_and_a_second_run_finds_nothing_new(output: Store) -> None:
    with Receiver() as receiver:
        act_on(output, webhook(receiver), quick())
        again = act_on(output, webhook(receiver), quick())
        assert len(receiver.messages) == 2
    assert (again.planned, again.delivered) == ({}, 0)


def test_a_review_that_overturns_a_block_sends_the_opposite_action_and_back(output: Store) -> None:
    with Receiver() as receiver:
        everything = webhook(receiver)
        act_on(output, everything, quick())
        review(output, IMAGES[0], ReviewAction.ALLOW)
        assert act_on(output, everything, quick()).planned == {"allow": 1}
        (undone,) = [message.content for message in receiver.messages if message.content["action"] == "allow"]
        assert (undone["item"]["uri"], undone["previous_action"], undone["change"]) == (GUN, "block", 2)
        assert (undone["decided_by"], undone["reviewer"], undone["reason"], undone["machine_action"]) == (
            "person",
            "alice",
            "toy",
            "block",
        )
        assert "private note" not in json.dumps(undone)
        review(output, IMAGES[0], ReviewAction.BLOCK, minutes=20)
        act_on(output, everything, quick())
        assert act_on(output, everything, quick()).planned == {}
    assert receiver.actions() == {GUN: ["block", "allow", "block"], NUDE: ["block"]}
    ids = [message.content["id"] for message in receiver.messages]
    assert len(set(ids)) == len(ids) == 4, "the second block is another action than the first"


def test_a_review_that_confirms_sends_nothing(output: Store) -> None:
    with Receiver() as receiver:
        act_on(output, webhook(receiver), quick())
        review(output, IMAGES[0], ReviewAction.BLOCK)
        assert act_on(output, webhook(receiver), quick()).planned == {}


def test_what_was_never_sent_is_not_taken_back(output: Store) -> None:
    review(output, IMAGES[0], ReviewAction.ALLOW)
    with Receiver() as receiver:
        act_on(output, webhook(receiver), quick())
    assert receiver.actions() == {NUDE: ["block"]}


def test_an_image_that_was_replaced_is_another_image(output: Store) -> None:
    with Receiver() as receiver:
        act_on(output, webhook(receiver), quick())
        replaced = (Image(GUN, [[0.0]], "a harmless picture"), Image(NUDE, [[0.0, 0.9375]], "another nude"))
        publish_images(output, replaced, run_id=NEXT_RUN)
        act_on(output, webhook(receiver), quick())
    assert receiver.actions() == {GUN: ["block", "allow"], NUDE: ["block", "block"]}


@pytest.mark.parametrize(("setting", "repeated"), [("send", 2), ("skip", 0)])
def test_a_new_policy_sends_the_same_action_again_unless_it_is_set_to_skip(output: Store, setting: str, repeated: int) -> None:
    text = POLICY_TEXT.replace('version: "1"', 'version: "2"')
    with Receiver() as receiver:
        chosen = webhook(receiver, f"actions: [block], new_policy: {setting}")
        act_on(output, chosen, quick())
        publish_vectors(output, IMAGES, parse_policy(text), text, run_id=NEXT_RUN)
        assert act_on(output, chosen, quick()).delivered == repeated
        assert act_on(output, chosen, quick()).delivered == 0


@pytest.mark.parametrize(
    ("condition", "uris"),
    [
        ("actions: [block], rules: [nudity]", {NUDE}),
        ("actions: [allow]", {FACE}),
        ("actions: [block], since: 2026-11-22", set()),
        ("actions: [block, allow], decided_by: person", {KNIFE}),
        ("actions: [block], policy: shop", {GUN, NUDE, KNIFE}),
    ],
)
def test_a_target_receives_what_it_asks_for(output: Store, condition: str, uris: set[str]) -> None:
    review(output, IMAGES[1], ReviewAction.BLOCK)
    with Receiver() as receiver:
        act_on(output, webhook(receiver, condition), quick())
    assert set(receiver.actions()) == uris


FAULTS: dict[str, Reply] = {
    "429": Reply(429),
    "429 with a pause": Reply(429, {"Retry-After": "0"}),
    "429 with a date": Reply(429, {"Retry-After": format_datetime(datetime.now(UTC) - timedelta(hours=1), usegmt=True)}),
    "429 with nonsense": Reply(429, {"Retry-After": "soon"}),
    "500": Reply(500),
    "503 with a pause": Reply(503, {"Retry-After": "0"}),
    "408": Reply(408),
    "closes early": Reply(fault="close"),
    "closes within a refusal": Reply(500, fault="half", body=b"half"),
}


def test_a_receiver_that_fails_in_every_way_now_and_then_receives_everything(tmp_path: Path) -> None:
    faults = list(FAULTS.values())

    def now_and_then(number: int, message: dict[str, Any]) -> Reply:
        return faults[number // 3 % len(faults)] if number % 3 != 2 else Reply()

    output = many(tmp_path, 30)
    patience = replace(QUICK, attempts=20, in_a_row=200)
    with Receiver(now_and_then) as receiver:
        acted = act_on(output, webhook(receiver), quick(patience))
    assert (acted.delivered, acted.waiting, acted.parked, acted.stopped) == (30, 0, 0, "")
    assert receiver.actions() == {image.uri: ["block"] for image in blocked(30)}
    assert {id(message.reply) for message in receiver.messages} >= {id(fault) for fault in faults}
    assert all(verified(message) for message in receiver.messages)
    bodies: dict[str, set[bytes]] = {}
    for message in receiver.messages:
        bodies.setdefault(message.headers["idempotency-key"], set()).add(message.body)
    assert all(len(sent) == 1 for sent in bodies.values()), "a repeated message is the same message"


@pytest.mark.parametrize("fault", ["endless", "half"])
def test_an_answer_that_never_ends_or_breaks_after_its_status_counts_and_costs_little(output: Store, fault: str) -> None:
    with Receiver(lambda number, message: Reply(fault=fault)) as receiver:
        acted = act_on(output, webhook(receiver), quick())
    assert (acted.delivered, acted.stopped) == (2, "")
    assert len(receiver.messages) == 2


def test_a_receiver_that_hangs_is_left_after_the_time_limit_and_tried_again(output: Store) -> None:
    def first_hangs(number: int, message: dict[str, Any]) -> Reply:
        return Reply(fault="hang") if number < 2 else Reply()

    with Receiver(first_hangs) as receiver:
        acted = act_on(output, webhook(receiver, timeout_s=0.3), quick())
        assert (acted.delivered, acted.waiting) == (2, 0)


def test_a_certificate_must_be_of_a_known_authority(output: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_authority(tmp_path)
    few = replace(QUICK, in_a_row=2)
    with Receiver(certificate=tmp_path / "server.pem") as receiver:
        unknown = act_on(output, webhook(receiver), quick(few))
        assert "CERTIFICATE_VERIFY_FAILED" in unknown.stopped
        assert (unknown.delivered, receiver.messages) == (0, [])
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
        assert act_on(output, webhook(receiver), quick(few)).delivered == 2
    assert all(verified(message) for message in receiver.messages)


def test_a_redirect_is_not_followed(output: Store) -> None:
    with Receiver() as elsewhere, Receiver(lambda number, message: Reply(307, {"Location": elsewhere.url})) as receiver:
        acted = act_on(output, webhook(receiver), quick())
        assert (acted.delivered, acted.parked) == (0, 2)
        assert elsewhere.messages == []
        (refused,) = standing(output, webhook(receiver)).refused
    assert refused.reason == "HTTP 307 Temporary Redirect: redirects are not followed: give the final URL"


def test_a_refused_message_is_parked_with_its_reason_and_holds_up_nobody(tmp_path: Path) -> None:
    def picky(number: int, message: dict[str, Any]) -> Reply:
        bad = message["item"]["uri"].endswith("7.jpg")
        return Reply(422, body=b"no\x1b[31m such listing " + KEY.encode()) if bad else Reply()

    output = many(tmp_path, 40)
    with Receiver(picky) as receiver:
        chosen = webhook(receiver)
        acted = act_on(output, chosen, quick())
        assert (acted.delivered, acted.parked, acted.waiting) == (36, 4, 0)
        assert act_on(output, chosen, quick()).delivered == 0, "what is parked is left alone"
        assert len(receiver.messages) == 40
        found = standing(output, chosen)
        assert (found.delivered, found.waiting, [one.deliveries for one in found.refused]) == (36, 0, [4])
        assert found.refused[0].reason == "HTTP 422 Unprocessable Entity: no␛[31m such listing ***"
        assert found.refused[0].uris == tuple(f"s3://shop/{number:04d}.jpg" for number in (7, 17, 27, 37))

        receiver.script = lambda number, message: Reply()
        assert retry_refused(output, chosen, quick()).delivered == 4
        assert standing(output, chosen).refused == ()
    assert receiver.actions() == {image.uri: ["block"] for image in blocked(40)}


def test_a_parked_action_that_a_later_one_has_overtaken_is_forgotten(output: Store) -> None:
    with Receiver(lambda number, message: Reply(400)) as receiver:
        chosen = webhook(receiver, "actions: [block], rules: [firearms]")
        act_on(output, chosen, quick())
        assert len(load(output, "trust").parked) == 1
        review(output, IMAGES[0], ReviewAction.ALLOW)
        receiver.script = lambda number, message: Reply()
        act_on(output, chosen, quick())
        assert load(output, "trust").parked == []
        assert retry_refused(output, chosen, quick()).delivered == 0
    assert receiver.actions() == {GUN: ["allow"]}


def test_a_target_that_is_down_is_given_up_after_some_failures_and_resumed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(acting, "GIVE_UP_AFTER", 2)
    output = many(tmp_path, 200)
    with Receiver(lambda number, message: Reply(503)) as receiver:
        chosen = webhook(receiver)
        acted = act_on(output, chosen, quick(batch=50))
        assert "attempts in a row failed: HTTP 503 Service Unavailable" in acted.stopped
        assert len(receiver.messages) < QUICK.in_a_row + 8
        assert (acted.delivered, acted.waiting) == (0, 50), "no more than one batch is written for a target that is down"
        for _ in range(2):
            act_on(output, chosen, quick(batch=50))
        assert standing(output, chosen).refused == (), "a message is not to blame while the target answers nobody"

        receiver.script = lambda number, message: Reply()
        acted = act_on(output, chosen, quick(batch=50))
    assert (acted.delivered, acted.waiting, acted.stopped) == (200, 0, "")
    assert receiver.actions() == {image.uri: ["block"] for image in blocked(200)}


def test_a_closed_port_is_a_target_that_is_down(output: Store) -> None:
    with Receiver() as receiver:
        chosen = webhook(receiver)
    acted = act_on(output, chosen, quick(replace(QUICK, in_a_row=4)))
    assert acted.stopped.startswith("4 attempts in a row failed: ")
    assert (acted.delivered, acted.waiting) == (0, 2)


def test_a_target_that_refuses_everything_is_given_up_before_all_is_parked(tmp_path: Path) -> None:
    output = many(tmp_path, 100)
    with Receiver(lambda number, message: Reply(401)) as receiver:
        acted = act_on(output, webhook(receiver), quick())
    assert "refused: HTTP 401 Unauthorized" in acted.stopped
    assert acted.parked < QUICK.in_a_row + 8
    assert acted.parked + acted.waiting == 100


def test_a_long_pause_is_left_to_the_next_run(output: Store) -> None:
    with Receiver(lambda number, message: Reply(429, {"Retry-After": "3600"})) as receiver:
        acted = act_on(output, webhook(receiver, connections=1), quick())
        assert acted.stopped == "it asks to wait for 3600 s: HTTP 429 Too Many Requests: {}"
        assert len(receiver.messages) == 1


def test_a_message_that_always_fails_is_parked_in_the_end_and_others_do_not_wait(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(acting, "GIVE_UP_AFTER", 2)

    def poisoned(number: int, message: dict[str, Any]) -> Reply:
        return Reply(500) if message["item"]["uri"] == "s3://shop/0000.jpg" else Reply()

    output = many(tmp_path, 6)
    with Receiver(poisoned) as receiver:
        chosen = webhook(receiver, connections=1)
        acted = act_on(output, chosen, quick())
        assert (acted.delivered, acted.waiting, acted.parked) == (5, 1, 0)
        for number in range(1):
            more = tuple(replace(image, uri=f"s3://shop/more-{number}-{image.uri[-8:]}") for image in blocked(2))
            publish_images(output, more, run_id=f"2026112{number + 2}T030000Z-abcdef")
            acted = act_on(output, chosen, quick())
        found = standing(output, chosen)
    assert [one.reason for one in found.refused] == ["failed in 2 runs: HTTP 500 Internal Server Error: {}"]
    assert (found.delivered, found.waiting) == (7, 0)


def test_the_order_of_an_image_is_kept_when_its_first_action_does_not_get_through(output: Store) -> None:
    def only_others(number: int, message: dict[str, Any]) -> Reply:
        return Reply(500) if message["item"]["uri"] == GUN else Reply()

    with Receiver(only_others) as receiver:
        chosen = webhook(receiver)
        act_on(output, chosen, quick())
        review(output, IMAGES[0], ReviewAction.ALLOW)
        acted = act_on(output, chosen, quick())
        assert (acted.planned, acted.waiting) == ({"allow": 1}, 2)
        assert GUN not in receiver.actions()
        assert {message.content["action"] for message in receiver.messages if message.uri == GUN} == {"block"}
        receiver.script = lambda number, message: Reply()
        act_on(output, chosen, quick())
    assert receiver.actions()[GUN] == ["block", "allow"]


def test_a_rehearsal_sends_and_writes_nothing(output: Store) -> None:
    before = [item.uri for page in output.list() for item in page]
    with Receiver() as receiver:
        found = rehearse(output, webhook(receiver))
        assert receiver.messages == []
    assert (found.live, found.planned) == (False, {"block": 2})
    assert [item.uri for page in output.list() for item in page] == before


def test_no_secret_is_written_anywhere(output: Store) -> None:
    with Receiver(lambda number, message: Reply(400, body=f"key {KEY} token s3cr3t-token".encode())) as receiver:
        chosen = target(
            "{name: trust, actions: [block], webhook: {url: {env: URL}, secret: {env: K}, headers: {X-Token: {env: T}}}}"
        )
        values = {"URL": f"{receiver.url}?hook=hidden-path", "K": KEY, "T": "s3cr3t-token"}
        act_on(output, chosen, replace(quick(), resolve=lambda secret: values[secret.env or ""]))
        assert standing(output, chosen).refused[0].reason == "HTTP 400 Bad Request: key *** token ***"
    import pyarrow.parquet as pq

    for page in output.list("_actions/"):
        for item in page:
            data = output.read(item)
            text = str(pq.read_table(output.open(output.key_of(item.uri))).to_pylist()) if item.uri.endswith("parquet") else ""
            for secret in (KEY, "s3cr3t-token", "hidden-path"):
                assert secret.encode() not in data
                assert secret not in text


def test_patience_waits_longer_each_time_within_a_limit() -> None:
    patience = Patience(first_wait_s=0.5, longest_wait_s=8.0)
    for attempt, most in ((1, 1.0), (2, 2.0), (5, 8.0), (30, 8.0)):
        waits = [patience.wait_s(attempt) for _ in range(50)]
        assert all(0 <= wait <= most for wait in waits)
        assert len(set(waits)) > 10, "with jitter"
