"""`ImageScorer` as a notebook uses it: images in, rows out."""

import hashlib
import threading
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pictures import encoded, picture
from support import make_policy, save_tiny_clip

from moderation import ImageLimits, ImageScorer, ObjectRef, OpenClipEncoder, Store
from moderation.errors import ErrorCode, StorageError
from moderation.policy.compiled import CompiledPolicy, prompt_texts
from moderation.policy.decision import ACTIONS, decide
from moderation.results import schemas
from moderation.scoring import preparing
from moderation.scoring.image_scorer import text_head
from moderation.scoring.options import ScorerOptions

# With random weights all cosines are near each other; thresholds are set so that every action happens.
POLICY = make_policy(
    {
        "id": "first",
        "prompts": ["a cat", "a dog"],
        "contrast": ["a car"],
        "review": 0.433,
        "block": 0.465,
        "category": "animals",
    },
    {"id": "second", "prompts": ["a house"], "score": "similarity", "review": -0.165, "severity": "high"},
    {"id": "third", "prompts": ["a tree"], "review": 0.5, "mode": "shadow"},
    {"id": "fourth", "prompts": ["a boat"], "mode": "off"},
    contrast=["a room", "food"],
    unreadable="block",
    near=0.005,
    version="7",
)


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    return OpenClipEncoder(save_tiny_clip(tmp_path_factory.mktemp("model")), device="cpu")


@pytest.fixture(scope="module")
def scorer(encoder):
    with ImageScorer(encoder, POLICY, ScorerOptions(fetch_threads=4, decode_threads=2)) as scorer:
        yield scorer


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Twenty pictures, an animation, and things that are none."""
    folder = tmp_path_factory.mktemp("images")
    for i in range(20):
        (folder / f"{i:02}.png").write_bytes(encoded(picture(i)))
    pages = [picture(100 + i) for i in range(12)]
    (folder / "animated.gif").write_bytes(encoded(pages[0], "GIF", save_all=True, append_images=pages[1:], duration=40))
    (folder / "pages.tiff").write_bytes(encoded(pages[0], "TIFF", save_all=True, append_images=pages[1:3]))
    (folder / "cut.png").write_bytes((folder / "00.png").read_bytes()[:60])
    (folder / "empty.jpg").write_bytes(b"")
    (folder / "notes.txt").write_bytes(b"no picture")
    return folder


@pytest.fixture(scope="module")
def objects(folder):
    return [item for page in Store(str(folder)).list() for item in page]


@pytest.fixture(scope="module")
def scored(scorer, objects):
    return scorer.score(objects)


def by_uri(table):
    return {row["uri"].rpartition("/")[2]: row for row in table.to_pylist()}


def content(table, order):
    """All of a table but the time, in an order of its own."""
    names = [name for name in table.column_names if name != "scored_at"]
    return table.select(names).sort_by([(name, "ascending") for name in order]).combine_chunks()


def same_rows(a, b):
    for table, order in (("decisions", ["uri"]), ("scores", ["uri", "rule"]), ("embeddings", ["uri", "frame"])):
        assert content(getattr(a, table), order).equals(content(getattr(b, table), order)), table


# --- rows ------------------------------------------------------------------------------------------------------------------


def test_every_image_has_one_decision(scored, objects):
    assert sorted(scored.decisions["uri"].to_pylist()) == sorted(item.uri for item in objects)
    rows = by_uri(scored.decisions)
    assert {name for name, row in rows.items() if row["status"] == "error"} == {"cut.png", "empty.jpg", "notes.txt"}
    counts = scored.summary.counts
    assert (counts.scored, counts.errors) == (22, 3)
    assert counts.errored == {"corrupt": 1, "empty": 1, "unsupported_format": 1}
    assert set(scored.summary.seconds) == {"fetch", "decode", "encode", "score"}


def test_a_decision_tells_of_its_object_and_what_decided(scored, objects, encoder, folder):
    row, item = by_uri(scored.decisions)["07.png"], next(item for item in objects if item.uri.endswith("07.png"))
    assert (row["etag"], row["size_bytes"], row["last_modified"]) == (item.etag, item.size, item.last_modified)
    assert (row["format"], row["width"], row["height"], row["frames"]) == ("PNG", 80, 60, 1)
    assert row["sha256"] == hashlib.sha256((folder / "07.png").read_bytes()).hexdigest()
    assert (row["policy"], row["policy_version"], row["policy_hash"]) == ("test", "7", POLICY.hash)
    assert (row["model"], row["model_fingerprint"]) == (encoder.name, encoder.fingerprint)
    assert (row["run_id"], row["error_code"], row["error_detail"], row["retryable"]) == ("notebook", None, None, False)
    assert abs((datetime.now(UTC) - row["scored_at"]).total_seconds()) < 600


def test_the_test_images_cover_every_action(scored):
    rows = [row for row in scored.decisions.to_pylist() if row["status"] == "scored"]
    assert {row["action"] for row in rows} == {"allow", "review", "block"}
    for column in ("near_threshold", "flagged", "shadow_flags"):
        assert {bool(row[column]) for row in rows} == {True, False}
    assert {row["top_rule"] for row in rows} == {"first", "second"}


def test_a_row_for_each_image_and_rule_that_is_scored(scored):
    rows = scored.scores.to_pylist()
    assert len(rows) == 22 * 3
    assert {row["rule"] for row in rows} == {"first", "second", "third"}
    flags = {row["uri"]: (row["flags"], row["shadow_flags"], row["action"]) for row in scored.decisions.to_pylist()}
    for uri, (flagged, shadow, action) in flags.items():
        own = [row for row in rows if row["uri"] == uri]
        acting = [row["rule"] for row in own if row["action"] != "allow"]
        assert [rule for rule in acting if rule != "third"] == flagged
        assert [rule for rule in acting if rule == "third"] == shadow
        if own:
            assert action == max(
                (row["action"] for row in own if row["mode"] == "live"), key=["allow", "review", "block"].index
            )
    for row in rows:
        rule = next(rule for rule in POLICY.rules if rule.id == row["rule"])
        assert (row["category"], row["severity"], row["mode"]) == (rule.category, rule.severity, rule.mode)
        assert row["top_prompt"] in rule.prompts
        assert row["review"] == np.float32(rule.review)


def test_the_top_rule_carries_its_score_of_the_scores_table(scored):
    scores = {(row["uri"], row["rule"]): row for row in scored.scores.to_pylist()}
    for row in scored.decisions.to_pylist():
        if row["status"] == "scored":
            top = scores[row["uri"], row["top_rule"]]
            assert (row["top_score"], row["top_category"], row["frame"]) == (top["score"], top["category"], top["frame"])
            assert row["top_threshold"] in {top["review"], top["block"]}
            assert row["flagged"] == bool(row["flags"]) == (row["action"] != "allow")


def test_errors_are_rows_with_a_reason_and_the_policys_action(scored, folder):
    rows = by_uri(scored.decisions)
    for name, code in [("cut.png", "corrupt"), ("empty.jpg", "empty"), ("notes.txt", "unsupported_format")]:
        row = rows[name]
        assert (row["error_code"], row["retryable"], row["action"], row["flagged"]) == (code, False, "block", False)
        assert row["error_detail"]
        assert row["sha256"] == hashlib.sha256((folder / name).read_bytes()).hexdigest()
        assert (row["flags"], row["shadow_flags"], row["near_threshold"]) == ([], [], False)
        for column in (
            "format",
            "width",
            "height",
            "frames",
            "frame",
            "top_rule",
            "top_category",
            "top_score",
            "top_threshold",
        ):
            assert row[column] is None
        assert row["policy_hash"] == POLICY.hash


def test_rows_have_the_stored_schemas(scored, scorer, encoder):
    empty = scorer.score([])
    failed = scorer.score(["/no/such/file.png"])
    for batch in (scored, empty, failed):
        for table in schemas.TABLES:
            found = getattr(batch, table)
            assert found.schema.equals(schemas.schema_of(table, encoder.dim), check_metadata=True)
            found.validate(full=True)
            for field in found.schema:
                if not field.nullable:
                    assert found[field.name].null_count == 0, field.name
    assert [len(empty.decisions), len(empty.scores), len(empty.embeddings)] == [0, 0, 0]
    assert [len(failed.decisions), len(failed.scores), len(failed.embeddings)] == [1, 0, 0]


# --- frames ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "kind", "count", "taken"), [("animated.gif", "GIF", 12, 8), ("pages.tiff", "TIFF", 3, 3)])
def test_an_animation_scores_as_its_highest_frame(scored, encoder, name, kind, count, taken):
    row = by_uri(scored.decisions)[name]
    assert (row["format"], row["frames"]) == (kind, count)
    stored = [r for r in scored.embeddings.to_pylist() if r["uri"] == row["uri"]]
    frames = [r["frame"] for r in stored]
    assert len(frames) == taken
    assert (frames[0], frames[-1]) == (0, count - 1)
    assert frames == sorted(set(frames))
    compiled = CompiledPolicy.build(POLICY, text_head(encoder, prompt_texts(POLICY)))
    each = compiled.score(np.array([r["embedding"] for r in stored], np.float16))
    scores = [r for r in scored.scores.to_pylist() if r["uri"] == row["uri"]]
    for r, rule in enumerate(compiled.rules):
        [found] = [s for s in scores if s["rule"] == rule.id]
        best = int(each.score[:, r].argmax())
        assert found["score"] == each.score[:, r].max()
        assert found["frame"] == frames[best]
        assert found["similarity"] == each.similarity[best, r]
        assert found["top_prompt"] == rule.prompts[each.top_prompt[best, r]]


def test_a_bad_frame_is_found_wherever_it_is(encoder):
    """One page of twelve shows what the rule looks for: the row says which."""
    pages = [picture(5)] * 12
    compiled = CompiledPolicy.build(POLICY, text_head(encoder, prompt_texts(POLICY)))
    seen = {}
    for seed in range(200, 216):
        pixels = encoder.preprocessing(picture(seed))[None]
        seen[seed] = compiled.score(encoder.encode_images(pixels).astype(np.float16)).score[0, 0]
    pages[11] = picture(max(seen, key=seen.get))
    data = encoded(pages[0], "TIFF", save_all=True, append_images=pages[1:])
    ref = ObjectRef("memory://x/pages.tiff", "e", len(data), datetime.now(UTC))
    with ImageScorer(encoder, compiled, read=lambda ref: data) as scorer:
        [row] = [r for r in scorer.score([ref]).scores.to_pylist() if r["rule"] == "first"]
    assert (row["frame"], row["score"]) == (11, max(seen.values()))


# --- replaying -------------------------------------------------------------------------------------------------------------


def test_stored_embeddings_give_the_same_scores_and_decisions(scored, encoder):
    """Promise 3, from the tables alone: a decision can be replayed to the bit."""
    compiled = CompiledPolicy.build(POLICY, text_head(encoder, prompt_texts(POLICY)))
    stored = scored.embeddings
    uris = stored["uri"].to_pylist()
    vectors = stored["embedding"].combine_chunks().flatten().to_numpy().reshape(len(stored), -1)
    assert vectors.dtype == np.float16
    assert np.linalg.norm(vectors.astype(np.float64), axis=1) == pytest.approx(1, abs=2e-3)
    frames = compiled.score(vectors).score
    known = {(row["uri"], row["rule"]): row["score"] for row in scored.scores.to_pylist()}
    decisions = {row["uri"]: row for row in scored.decisions.to_pylist()}
    for uri in set(uris):
        own = frames[[i for i, other in enumerate(uris) if other == uri]].max(axis=0, keepdims=True)
        assert [known[uri, rule.id] for rule in compiled.rules] == own[0].tolist()
        again = decide(own, compiled.thresholds)
        row = decisions[uri]
        assert ACTIONS[again.action[0]] == row["action"]
        assert compiled.rules[again.top_rule[0]].id == row["top_rule"]
        assert again.top_threshold[0] == np.float32(row["top_threshold"])
        assert bool(again.near[0]) == row["near_threshold"]


@settings(max_examples=4, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_cutting_the_list_anywhere_and_any_order_give_the_same_rows(scorer, scored, objects, data):
    order = data.draw(st.permutations(objects))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(order)), max_size=3)))
    parts = [scorer.score(order[a:b]) for a, b in zip([0, *cuts], [*cuts, len(order)], strict=True)]
    whole = [pa.concat_tables([getattr(part, table) for part in parts]) for table in schemas.TABLES]
    same_rows(scored, type(scored)(scored.summary, *whole))


def test_thread_counts_and_a_policy_compiled_before_change_nothing(encoder, scored, objects):
    compiled = CompiledPolicy.build(POLICY, text_head(encoder, prompt_texts(POLICY)))
    with ImageScorer(encoder, compiled, ScorerOptions(fetch_threads=1, decode_threads=1)) as other:
        same_rows(scored, other.score(objects))


def test_two_threads_may_score_at_once(scorer, scored, objects):
    found = {}

    def work(name, part):
        found[name] = [scorer.score(part) for _ in range(3)]

    halves = {"a": objects[::2], "b": objects[1::2]}
    threads = [threading.Thread(target=work, args=item) for item in halves.items()]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for a, b in zip(found["a"], found["b"], strict=True):
        whole = [pa.concat_tables([getattr(a, table), getattr(b, table)]) for table in schemas.TABLES]
        same_rows(scored, type(scored)(scored.summary, *whole))


# --- what may be asked for -------------------------------------------------------------------------------------------------


def test_paths_uris_and_listed_objects_are_the_same_images(scorer, folder, objects, monkeypatch):
    monkeypatch.chdir(folder)
    path = folder / "03.png"
    [listed] = [item for item in objects if item.uri.endswith("03.png")]
    expected = scorer.score([listed])
    for image in (path, str(path), f"file://{path}", "03.png", "./03.png"):
        same_rows(expected, scorer.score([image]))


def test_images_in_a_store_are_scored_by_uri(scorer, folder):
    Store("memory://scorer-test").put("in/a b.png", (folder / "03.png").read_bytes())
    [row] = scorer.score(["memory://scorer-test/in/a b.png"]).decisions.to_pylist()
    assert (row["status"], row["uri"]) == ("scored", "memory://scorer-test/in/a b.png")


@pytest.mark.parametrize("name", ["nothing.png", "no/such/folder.png", "", "."])
def test_a_missing_object_is_an_error_row(scorer, folder, name):
    [row] = scorer.score([f"{folder}/{name}"]).decisions.to_pylist()
    assert (row["status"], row["error_code"], row["sha256"]) == ("error", "not_found", None)
    assert row["action"] == "block"


def by_uri_only(item):
    return ObjectRef(item.uri, "", 0, datetime.fromtimestamp(0, UTC))


def test_objects_without_an_etag_are_looked_up(scorer, scored, objects):
    same_rows(scored, scorer.score([by_uri_only(item) for item in objects]))
    same_rows(scored, scorer.score([by_uri_only(item) if i % 3 else item for i, item in enumerate(objects)]))


def test_an_object_is_looked_up_only_where_its_etag_is_missing(encoder, objects):
    known, looked_up = {item.uri: item for item in objects}, []

    def look_up(uri):
        looked_up.append(uri)
        return known[uri]

    with ImageScorer(encoder, POLICY, ScorerOptions(fetch_threads=2), look_up=look_up) as scorer:
        found = scorer.score([objects[0], *map(by_uri_only, objects[1:20])])
    assert sorted(looked_up) == sorted(item.uri for item in objects[1:20])
    rows = {row["uri"]: (row["etag"], row["size_bytes"], row["last_modified"]) for row in found.decisions.to_pylist()}
    assert rows == {item.uri: (item.etag, item.size, item.last_modified) for item in objects[:20]}


def test_an_object_that_cannot_be_looked_up_is_a_row_as_it_was_given(encoder, objects):
    given = by_uri_only(objects[0])

    def look_up(uri):
        raise StorageError(ErrorCode.ACCESS_DENIED, "not yours")

    with ImageScorer(encoder, POLICY, ScorerOptions(fetch_threads=2), look_up=look_up) as scorer:
        rows = {row["uri"]: row for row in scorer.score([given, *objects[1:9]]).decisions.to_pylist()}
    row = rows.pop(given.uri)
    assert (row["error_code"], row["error_detail"], row["etag"], row["size_bytes"]) == ("access_denied", "not yours", "", 0)
    assert {row["status"] for row in rows.values()} == {"scored"}


def test_an_object_that_was_looked_up_but_not_read_is_a_row_with_what_is_known(encoder, objects):
    def read(item):
        raise StorageError(ErrorCode.CHANGED, "too late")

    with ImageScorer(encoder, POLICY, read=read, look_up=lambda uri: objects[3]) as scorer:
        [row] = scorer.score([by_uri_only(objects[3])]).decisions.to_pylist()
    assert (row["error_code"], row["etag"], row["size_bytes"]) == ("changed", objects[3].etag, objects[3].size)


def test_an_object_found_too_large_is_not_fetched(encoder, objects):
    with ImageScorer(
        encoder, POLICY, ScorerOptions(limits=ImageLimits(max_bytes=10)), read=lambda item: pytest.fail("fetched")
    ) as scorer:
        [row] = scorer.score([by_uri_only(objects[3])]).decisions.to_pylist()
    assert (row["error_code"], row["sha256"], row["size_bytes"]) == ("too_large", None, objects[3].size)


def test_an_image_that_changed_since_it_was_listed_is_a_row(scorer, tmp_path):
    (tmp_path / "a.png").write_bytes(encoded(picture(1)))
    [[item]] = Store(str(tmp_path)).list()
    (tmp_path / "a.png").write_bytes(encoded(picture(2, (90, 90))))
    [row] = scorer.score([item]).decisions.to_pylist()
    assert (row["error_code"], row["retryable"], row["etag"]) == ("changed", True, item.etag)


@pytest.mark.parametrize("code", [ErrorCode.STORAGE_ERROR, ErrorCode.ACCESS_DENIED, ErrorCode.NOT_FOUND, ErrorCode.CHANGED])
def test_a_storage_error_becomes_the_rows_code(encoder, folder, objects, code):
    refused = objects[3]

    def read(item):
        if item == refused:
            raise StorageError(code, "the disk is on fire")
        return (folder / item.uri.rpartition("/")[2]).read_bytes()

    with ImageScorer(encoder, POLICY, read=read, run_id="r1") as scorer:
        rows = {row["uri"]: row for row in scorer.score(objects[:6]).decisions.to_pylist()}
    assert len(rows) == 6
    row = rows.pop(refused.uri)
    assert (row["error_code"], row["error_detail"], row["retryable"]) == (code, "the disk is on fire", code.retryable)
    assert (row["sha256"], row["run_id"]) == (None, "r1")
    assert {row["status"] for row in rows.values()} == {"scored"}


def test_limits_on_bytes_pixels_and_frames_are_enforced(encoder, folder):
    small = ImageLimits(max_bytes=(folder / "03.png").stat().st_size - 1, max_pixels=80 * 60, max_frames=2)
    with ImageScorer(encoder, POLICY, ScorerOptions(limits=small)) as scorer:
        [row] = scorer.score([folder / "03.png"]).decisions.to_pylist()
        assert (row["error_code"], row["sha256"]) == ("too_large", None), "it is not even fetched"
    with ImageScorer(encoder, POLICY, ScorerOptions(limits=ImageLimits(max_pixels=80 * 60 - 1))) as scorer:
        assert scorer.score([folder / "03.png"]).decisions["error_code"].to_pylist() == ["too_many_pixels"]
    with ImageScorer(encoder, POLICY, ScorerOptions(limits=ImageLimits(max_frames=2))) as scorer:
        assert scorer.score([folder / "animated.gif"]).embeddings["frame"].to_pylist() == [0, 11]


def test_decoding_that_takes_too_long_is_a_row_to_be_retried(encoder, folder):
    with ImageScorer(encoder, POLICY, ScorerOptions(limits=ImageLimits(max_seconds=1e-9))) as scorer:
        [row] = scorer.score([folder / "03.png"]).decisions.to_pylist()
    assert (row["error_code"], row["retryable"]) == ("worker_timeout", True)
    assert row["error_detail"] == "decoding took longer than 1e-09 s"
    assert row["sha256"]


def test_threads_that_decode_share_a_budget_of_memory(encoder, monkeypatch):
    """Pictures that take all of the budget are decoded one after the other."""
    busy, most = [], []

    class Image(preparing.DecodedImage):
        def __init__(self, *args):
            super().__init__(*args)
            self.memory = 600 << 20

        def frames(self):
            busy.append(1)
            most.append(len(busy))
            yield from super().frames()
            busy.pop()

    monkeypatch.setattr(preparing, "DecodedImage", Image)
    refs = [ObjectRef(f"memory://x/{i}", "e", 1000, datetime.now(UTC)) for i in range(40)]
    read = lambda item: encoded(picture(int(item.uri.rpartition("/")[2])))  # noqa: E731
    with ImageScorer(encoder, POLICY, ScorerOptions(decode_threads=8), read=read) as scorer:
        assert scorer.score(refs).summary.counts.scored == 40
    assert (len(most), max(most)) == (40, 1)


def test_a_policy_of_shadow_rules_only_has_no_top_rule(encoder, objects):
    policy = make_policy({"mode": "shadow", "review": 0.0}, {"mode": "shadow", "review": 1.0})
    with ImageScorer(encoder, policy) as scorer:
        rows = scorer.score(objects[:3]).decisions.to_pylist()
    for row in rows:
        assert (row["action"], row["flags"], row["shadow_flags"]) == ("allow", [], ["r0"])
        assert [row[name] for name in ("top_rule", "top_category", "top_score", "top_threshold", "frame")] == [None] * 5


def test_an_image_given_twice_is_two_rows(scorer, folder):
    assert len(scorer.score([folder / "03.png", folder / "03.png"]).decisions) == 2


def test_objects_are_fetched_a_bounded_number_ahead(encoder):
    """However long the list, what is held in memory is not: promise 7."""
    data = encoded(picture(1))
    gate = threading.Event()
    read = []

    def slow(item):
        read.append(item)
        gate.wait(10)
        return data

    now = datetime.now(UTC)
    refs = [ObjectRef(f"memory://x/{i}", "e", len(data), now) for i in range(300)]
    with ImageScorer(encoder, POLICY, ScorerOptions(fetch_threads=2, decode_threads=1), read=slow) as scorer:
        worker = threading.Thread(target=lambda: scorer.score(refs))
        worker.start()
        threading.Event().wait(0.3)
        ahead = len(scorer._preparer._fetching) + len(read)
        gate.set()
        worker.join()
    assert ahead < 100
    assert len(read) == 300
