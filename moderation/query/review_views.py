"""The views of reviews and appeals, and of what is in effect: the machine's decisions with people's over them."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

import duckdb
import pyarrow as pa

from moderation.query.near_reviews import create_near_review
from moderation.query.review_sql import APPEALS, OTHER_MEANINGS, QUEUE, effective_sql
from moderation.query.view_files import PublishedFile
from moderation.query.view_scan import scan
from moderation.reviews import appeal, store
from moderation.reviews.current import current_sql
from moderation.reviews.schema import REVIEWS
from moderation.reviews.validity import Validity
from moderation.storage import Store

REVIEW_VIEWS = ("reviews", "current_reviews", "effective_decisions", "review_queue", "appeals")

_FOLDERS = {"date": (r"CAST(regexp_extract(filename, '/date=([^/]+)/[^/]+$', 1) AS DATE)", pa.date32())}
_PATH = re.compile(r"(?:reviews|appeals)/date=\d{4}-\d\d-\d\d/[^/]+\.parquet")
_ONCE = "SELECT * FROM {} QUALIFY row_number() OVER (PARTITION BY {}) = 1"


@dataclass(frozen=True, slots=True)
class ReviewFiles:
    """The files of both tables, as they are now."""

    reviews: tuple[PublishedFile, ...]
    appeals: tuple[PublishedFile, ...]

    @classmethod
    def find(cls, output: Store) -> "ReviewFiles":
        """List them. Raises `StorageError`."""
        found = (
            tuple(PublishedFile.listed(output, item) for item in store.files(output, folder))
            for folder in (store.FOLDER, appeal.FOLDER)
        )
        return cls(*(tuple(file for file in files if _PATH.fullmatch(file.key)) for files in found))

    @property
    def all(self) -> list[PublishedFile]:
        """Of either table."""
        return [*self.reviews, *self.appeals]

    def __bool__(self) -> bool:
        return bool(self.reviews)


def create_review_views(
    connection: duckdb.DuckDBPyConnection,
    output: Store,
    files: ReviewFiles,
    meanings: Mapping[str, Mapping[str, str]],
    validity: Validity,
) -> None:
    """Make `REVIEW_VIEWS`; the views of decisions exist.

    Args:
        connection: knows how to open the files.
        output: where suggestions read reviews, if they are asked for.
        files: of both tables.
        meanings: by policy hash and rule, what it looks for.
        validity: how far a verdict reaches.
    """
    connection.execute("CREATE SCHEMA internal")
    connection.execute(f"CREATE VIEW internal.reviews AS {scan(list(REVIEWS), _FOLDERS, [f.path for f in files.reviews])}")
    connection.execute(
        f"CREATE VIEW internal.appeals AS {scan(list(appeal.APPEALS), _FOLDERS, [f.path for f in files.appeals])}"
    )
    _create_meanings(connection, meanings if validity.ask_again else {})
    create_near_review(connection, output, validity.near_duplicates if files else None)
    connection.execute(f"CREATE VIEW reviews AS {_ONCE.format('internal.reviews', 'review_id')}")
    connection.execute(f"CREATE VIEW current_reviews AS {current_sql('internal.reviews')}")
    connection.execute(f"CREATE VIEW effective_decisions AS {effective_sql()}")
    connection.execute(f"CREATE VIEW appeals AS {APPEALS}")
    connection.execute(f"CREATE VIEW review_queue AS {QUEUE}")


def _create_meanings(connection: duckdb.DuckDBPyConnection, meanings: Mapping[str, Mapping[str, str]]) -> None:
    rows = [(policy, rule, meaning) for policy, rules in meanings.items() for rule, meaning in rules.items()]
    connection.execute("CREATE TABLE internal.meanings (policy_hash VARCHAR, rule VARCHAR, meaning VARCHAR)")
    if rows:
        connection.executemany("INSERT INTO internal.meanings VALUES (?, ?, ?)", rows)
    connection.execute(f"CREATE VIEW internal.other_meanings AS {OTHER_MEANINGS}")
