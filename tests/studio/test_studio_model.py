"""The studio with the bundled model: new prompts, warnings, search by picture, and why an image is decided as it is."""

import re
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import numpy as np
import pytest
from report_pages import Page
from scored_demo import objects_under, publish_scored
from studios import Running, running

from moderation.demo import IMAGES_DIR, POLICY_FILE
from moderation.query import connect
from moderation.storage import Store

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("model")
    publish_scored(Store(str(folder / "results")), objects_under(IMAGES_DIR / "listings")[:40])
    (folder / "demo.yaml").write_text(POLICY_FILE.read_text())
    with running(folder / "results", folder, [folder / "demo.yaml"]) as found:
        yield found


def drafted(site: Running, text: str) -> dict[str, Any]:
    for _ in range(600):
        found: dict[str, Any] = site.client.post("/policy/0/draft", {"text": text}).json
        if found["state"] != "working":
            return found
        time.sleep(0.1)
    raise AssertionError(found)


def with_rule(text: str) -> str:
    return text.replace(
        "\nexamples:", "\n  - {id: shoes, prompts: [a running shoe], score: similarity, review: 0.2}\n\nexamples:"
    )


def test_a_new_prompt_is_embedded_and_not_kept(site: Running) -> None:
    before = {str(path) for path in Path(site.studio.results).rglob("*")}
    found = drafted(site, with_rule(POLICY_FILE.read_text()))
    assert found["state"] == "ready", found
    assert 'data-rule="shoes"' in found["html"]
    assert {str(path) for path in Path(site.studio.results).rglob("*")} == before


def test_warnings_know_the_model(site: Running) -> None:
    found = site.client.post(
        "/policy/0/check", {"text": POLICY_FILE.read_text().replace("a kitchen knife", "a quokka", 1)}
    ).json
    assert any("quokka" in one["message"] for one in found["findings"]), found
    assert {one["level"] for one in found["findings"]} == {"warning"}
    assert all(one["here"] and one["line"] > 1 for one in found["findings"])


def test_a_picture_finds_itself(site: Running) -> None:
    image = next(path for path in sorted((IMAGES_DIR / "listings").iterdir()) if path.name.endswith("fox.png"))
    answer = site.client.post("/search/picture", image.read_bytes())
    assert answer.status == 200
    first = answer.text.partition("</li>")[0]
    assert image.name in first
    assert "<b>1.000</b>" in first


def test_what_is_no_picture_is_said_to_be_none(site: Running) -> None:
    answer = site.client.post("/search/picture", b"not a picture")
    assert answer.status == 400
    assert "your picture" in answer.text
    assert tempfile.gettempdir() not in answer.text
    assert site.client.post("/search/picture", b"").status == 400


def test_a_text_finds_what_it_names(site: Running) -> None:
    text = site.client.get(f"/search/found?{urlencode({'q': 'a fox'})}").text
    assert "fox.png" in text.partition("</li>")[0]
    assert site.client.get(f"/search/found?{urlencode({'q': ' '})}").status == 400
    assert site.client.get(f"/search/found?{urlencode({'q': 'x ' * 400})}").status == 400


def test_an_image_is_explained_with_the_scores_that_are_stored(site: Running) -> None:
    with connect(site.studio.results) as connection:
        rows = connection.execute("SELECT uri, rule, score FROM scores ORDER BY uri, rule").fetchall()
    uri = rows[0][0]
    text = Page(site.client.get(f"/image?{urlencode({'uri': uri})}").text).text
    shown = sorted(float(score) for score in re.findall(r"(\d\.\d{3}) +\d\.\d+ (?:below|above)", text))
    stored = sorted(score for one, _, score in rows if one == uri)
    assert np.allclose(shown, stored, atol=0.00051)


def test_similar_images_are_others(site: Running) -> None:
    uri = objects_under(IMAGES_DIR / "listings")[0].uri
    text = site.client.get(f"/image/alike?{urlencode({'uri': uri})}").text
    assert text.count('class="shot') == 24
    assert f'?{urlencode({"uri": uri})}"' not in text
