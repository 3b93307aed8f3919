"""docs/data-dictionary.md is what the schemas say."""

import re
import sys

import pytest
from places import DOCS

from moderation import cli
from moderation.query.dictionary import dictionary
from moderation.query.view_runs import RUNS
from moderation.results import schemas
from moderation.reviews.appeal import APPEALS
from moderation.reviews.schema import REVIEWS

PAGE = DOCS / "data-dictionary.md"
RENEW = "renew it: moderate results dictionary > docs/data-dictionary.md"


def test_the_page_is_the_one_generated_from_the_schemas() -> None:
    assert PAGE.read_text(encoding="utf-8") == dictionary(), RENEW


def test_the_command_prints_the_data_dictionary(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["moderate", "results", "dictionary"])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert not stop.value.code
    assert capsys.readouterr().out == dictionary()


def test_every_column_of_every_table_is_described_once() -> None:
    sections = dict(re.findall(r"^## ([^\n]+)\n(.*?)(?=^## |\Z)", dictionary(), re.DOTALL | re.MULTILINE))
    for schema in (schemas.DECISIONS, schemas.SCORES, schemas.embeddings(8), RUNS, REVIEWS, APPEALS):
        table = schema.metadata[b"table"].decode()
        assert re.findall(r"^\| `([a-z0-9_]+)` \|", sections[table], re.MULTILINE) == schema.names


def test_every_row_of_the_dictionary_has_all_its_cells() -> None:
    """A vertical bar in a description does not end its cell."""
    tables = [line for line in dictionary().splitlines() if line.startswith("|")]
    widths = {len(re.findall(r"(?<!\\)\|", line)) for line in tables}
    assert widths == {5, 6}
    assert any(r"scored \| error" in line for line in tables)


def test_column_types_are_given_in_arrow_notation() -> None:
    assert "| `embedding` | `fixed_size_list<float16>[D]` | no | 1 |" in dictionary()
    assert "| `flags` | `list<string>` | no | 1 |" in dictionary()
    assert "| `pdq` | `string` | yes | 2 |" in dictionary()
    assert "| `flagged_by_rule` | `map<string, int64>` | no | 1 |" in dictionary()
