"""What an actor takes beside its model is bounded, however many large pictures go through it."""

import pytest
from needs import needs_linux

from benchmarks.actor_memory import TARGET_GB, in_a_process
from benchmarks.images import LARGE, SMALL, write_jpegs


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    write_jpegs(folder / "large", 4, LARGE)
    write_jpegs(folder / "small", 64, SMALL)
    return folder


@needs_linux
@pytest.mark.slow
@pytest.mark.parametrize(("decode_threads", "count"), [(2, 10_000), (16, 2_000)])
def test_large_pictures_by_the_thousand_stay_within_the_bound(folder, decode_threads, count):
    """What is fetched ahead (256 MB), what is decoded (1 GiB at most), and the rows."""
    taken = in_a_process(folder, count, decode_threads)
    print(f"{count:,} pictures by {decode_threads} threads took {taken:.2f} GB")  # noqa: T201 - shown by pytest -s
    assert taken <= TARGET_GB
