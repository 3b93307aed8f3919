"""The benchmark of reviews makes results that the views read, and asks them what it says."""

from pathlib import Path

from benchmarks.reviews import measure, write_results
from moderation.query import connect


def test_the_benchmark_of_reviews_measures_what_it_says(tmp_path: Path) -> None:
    write_results(tmp_path, 60_000, 6_000)
    with connect(str(tmp_path)) as connection:
        counts = connection.execute("SELECT count(*), count(DISTINCT uri) FROM decisions").fetchone()
        assert connection.execute("SELECT count(*) FROM reviews").fetchall() == [(6_000,)]
        assert connection.execute("SELECT count(*) FROM effective_decisions").fetchall() == [(54_000,)]
    assert counts == (59_700, 54_000)
    names = [figure.name for figure in measure(tmp_path, 1)]
    assert names[:2] == ["review_queue_page_s", "effective_decisions_count_s"]
