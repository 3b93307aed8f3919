"""An image on a restricted list is decided and stays in the rows, and no page has its picture, or its name."""

import hashlib
import shutil
from pathlib import Path

import pytest
from scored_demo import objects_under, publish_scored
from typer.testing import CliRunner

from moderation import Store
from moderation.authoring.list_entries import image_hashes
from moderation.cli import app
from moderation.demo import IMAGES_DIR, POLICY_FILE
from moderation.policy_files.loading import load_policy
from moderation.report.sheets import wanted
from moderation.results.aggregates import aggregate
from moderation.results.read_run import read_decisions, read_scores
from moderation.results.runs import find_run
from moderation.results.showing import may_show

HIDDEN = "49225-kitchen-knife.png"
"""on the restricted list; without it the weapons rule would block it, and show it everywhere"""
OTHERS = ("48091-lizard.jpg", "48070-cigarette.webp", "49288-slot-machine.jpg", "48679-pill.jpg", "48112-hammer.JPG")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images and a broken one, a policy with a restricted list, and the results of a run."""
    folder = tmp_path_factory.mktemp("restricted")
    (folder / "images").mkdir()
    for name in (HIDDEN, *OTHERS):
        shutil.copy(IMAGES_DIR / "listings" / name, folder / "images" / name)
    broken = b"\xff\xd8\xff\xe0 known and broken"
    (folder / "images" / "broken.jpg").write_bytes(broken)
    (folder / "lists").mkdir()
    (folder / "lists" / "secret.txt").write_text(image_hashes(str(folder / "images" / HIDDEN)).pdq[0].as_py() + "\n")
    (folder / "lists" / "bytes.txt").write_text(hashlib.sha256(broken).hexdigest() + "\n")
    lists = """lists:
  - {id: secret, file: lists/secret.txt, hash: pdq, action: block, severity: critical, restricted: true}
  - {id: bytes, file: lists/bytes.txt, hash: sha256, action: block, mode: shadow, restricted: true}
"""
    text = POLICY_FILE.read_text()
    start = text.index("lists:\n")
    (folder / "policy.yaml").write_text(text[:start] + lists + text[text.index("\nrules:") :])
    (folder / "plain.yaml").write_text(text[:start] + text[text.index("\nrules:") + 1 :])
    publish_scored(Store(str(folder / "listed")), objects_under(folder / "images"), folder / "policy.yaml")
    publish_scored(Store(str(folder / "plain")), objects_under(folder / "images"), folder / "plain.yaml")
    return folder


def moderate(*arguments: object) -> str:
    found = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert found.exit_code == 0, (found.output, found.exception)
    return found.output


def rows_of(output: Store) -> dict[str, dict[str, object]]:
    (item,) = [item for page in output.list("runs/") for item in page]
    run = find_run(output, item.uri.rpartition("/")[2].removesuffix(".json"))
    assert run.manifest is not None
    return {row["uri"].rpartition("/")[2]: row for row in read_decisions(output, run.manifest).to_pylist()}


def test_they_stay_in_the_rows_with_their_decision(made: Path) -> None:
    rows = rows_of(Store(str(made / "listed")))
    hidden, broken = rows[HIDDEN], rows["broken.jpg"]
    assert (hidden["action"], hidden["top_rule"], hidden["top_score"]) == ("block", "secret", None)
    assert hidden["flags"] == ["weapons", "secret"]
    assert (broken["status"], broken["action"], broken["shadow_flags"]) == ("error", "review", ["bytes"])
    assert rows["48112-hammer.JPG"]["list_matches"] is None


@pytest.mark.parametrize("results", ["listed", "plain"], ids=["matched by the run", "matched by the policy in use"])
def test_no_page_of_a_study_has_them(made: Path, tmp_path: Path, results: str) -> None:
    policy = ("--policy", made / "policy.yaml")
    moderate("policy", "sample", "--results", made / results, "--rule", "weapons", "-o", tmp_path / "labels", *policy)
    moderate("policy", "backtest", made / "policy.yaml", "--results", made / results, "-o", tmp_path / "backtest")
    pages = [tmp_path / "labels" / "weapons.html", tmp_path / "labels" / "weapons.csv", tmp_path / "backtest" / "backtest.html"]
    if results == "listed":
        moderate("search", "a kitchen knife", "--results", made / results, "--html", tmp_path / "search.html")
        printed = moderate("search", "a kitchen knife", "--results", made / results, "--csv")
        pages.append(tmp_path / "search.html")
        assert HIDDEN not in printed
        assert "48112-hammer" in printed
    for page in pages:
        text = page.read_text()
        assert HIDDEN not in text, page
        assert "broken.jpg" not in text, page
    assert "data:image/jpeg" in pages[0].read_text(), "others are shown"


def test_the_report_has_none_to_show(made: Path) -> None:
    output = Store(str(made / "listed"))
    (item,) = [item for page in output.list("runs/") for item in page]
    run = find_run(output, item.uri.rpartition("/")[2].removesuffix(".json"))
    assert run.manifest is not None
    decisions = read_decisions(output, run.manifest)
    names = [uri.rpartition("/")[2] for uri in decisions["uri"].to_pylist()]
    assert {name for name, shown in zip(names, may_show(decisions), strict=True) if not shown} == {HIDDEN, "broken.jpg"}
    found = aggregate(load_policy(made / "policy.yaml"), decisions, read_scores(output, run.manifest))
    assert {uri.rpartition("/")[2] for uri, _, _ in wanted(found)} == set(OTHERS)
    assert found.errors == {}
    assert {name: sum(entries.values()) for name, entries in found.entries.items()} == {"secret": 1, "bytes": 1}


def test_an_explanation_says_so_and_shows_no_picture(made: Path, tmp_path: Path) -> None:
    page = tmp_path / "explained.html"
    images = [made / "images" / name for name in (HIDDEN, "broken.jpg")]
    printed = moderate("policy", "explain", made / "policy.yaml", *images, "--html", page)
    assert "block (on the list secret)" in printed
    assert "on the list secret, PDQ" in printed
    assert "on the list bytes (shadow), same SHA-256: would block" in printed
    text = page.read_text()
    assert "data:image/jpeg" not in text
    assert text.count(">restricted</div>") == 2
    moderate("policy", "explain", made / "policy.yaml", made / "images" / OTHERS[0], "--html", page)
    assert "data:image/jpeg" in page.read_text()


def test_an_image_that_is_searched_for_is_not_shown_either(made: Path, tmp_path: Path) -> None:
    for name, shown in ((HIDDEN, False), (OTHERS[0], True)):
        page = tmp_path / "search.html"
        where = "uri LIKE '%nothing%'"
        image = made / "images" / name
        moderate("search", "--image", image, "--results", made / "listed", "--html", page, "--where", where)
        assert ("data:image/jpeg" in page.read_text()) == shown
