"""Pictures of the pages: re-encoded by other processes, kept within bounds, and never of anything but a named image."""

import io
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from moderation.storage import Store
from moderation.studio.line_process import LineProcess, ProcessDiedError
from moderation.studio.picture_cache import PictureCache
from moderation.studio.pictures import Pictures

SECRET = b"taken at 52.5 N 13.4 E"


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("images")
    exif = Image.Exif()
    exif[0x010E] = SECRET.decode()
    Image.effect_noise((1200, 800), 60).convert("RGB").save(folder / "large.jpg", exif=exif, comment=SECRET)
    Image.new("RGB", (40, 30), "red").save(folder / "small.png")
    (folder / "broken.jpg").write_bytes(b"\xff\xd8\xff not a picture")
    return folder


@pytest.fixture(scope="module")
def pictures() -> Iterator[Pictures]:
    found = Pictures(local_files=True, processes=1)
    yield found
    found.close()


def version(folder: Path, name: str) -> tuple[str, str]:
    """URI and ETag."""
    item = Store(str(folder)).head(name)
    return item.uri, item.etag


def test_a_picture_is_encoded_again_and_no_larger_than_asked(pictures: Pictures, images: Path) -> None:
    data = pictures.picture(*version(images, "large.jpg"), 0, 320)
    assert data is not None
    assert SECRET not in data
    with Image.open(io.BytesIO(data)) as shown:
        assert shown.format == "JPEG"
        assert shown.size == (320, 213)
        assert not shown.getexif()


def test_a_small_picture_stays_as_small_as_it_is(pictures: Pictures, images: Path) -> None:
    data = pictures.picture(*version(images, "small.png"), 0, 320)
    assert data is not None
    assert Image.open(io.BytesIO(data)).size == (40, 30)


def test_what_cannot_be_shown_is_no_picture(pictures: Pictures, images: Path) -> None:
    uri, etag = version(images, "small.png")
    assert pictures.picture(*version(images, "broken.jpg"), 0, 320) is None
    assert pictures.picture(uri, "another version", 0, 320) is None
    assert pictures.picture(uri, etag, 7, 320) is None
    assert pictures.picture(f"{uri}.gone", etag, 0, 320) is None


def test_results_elsewhere_cannot_show_files_of_this_machine(images: Path) -> None:
    found = Pictures(local_files=False, processes=1)
    try:
        assert found.picture(*version(images, "small.png"), 0, 320) is None
    finally:
        found.close()


def test_a_process_that_is_killed_is_started_again(images: Path) -> None:
    found = Pictures(local_files=True, processes=1)
    try:
        assert found.picture(*version(images, "small.png"), 0, 100) is not None
        process = found._processes[0]._process
        assert process is not None
        process.kill()
        process.wait()
        assert found.picture(*version(images, "small.png"), 0, 101) is not None
    finally:
        found.close()
    assert process.poll() is not None


def test_nothing_is_left_behind(images: Path) -> None:
    found = Pictures(local_files=True, processes=1)
    found.picture(*version(images, "small.png"), 0, 100)
    folder = found._cache._folder
    assert list(folder.iterdir())
    assert folder.stat().st_mode & 0o077 == 0
    found.close()
    assert not folder.exists()


def test_the_cache_forgets_what_was_not_asked_for_longest() -> None:
    cache = PictureCache(most_bytes=250)
    try:
        keys = [("uri", "etag", frame, 320) for frame in range(4)]
        for key in keys[:2]:
            cache.put(key, b"x" * 100)
        assert cache.get(keys[0]) == b"x" * 100
        cache.put(keys[2], b"y" * 100)
        assert cache.get(keys[1]) is None
        assert cache.get(keys[0]) is not None
        cache.put(keys[3], b"z" * 300)  # more than there may be at all
        assert cache.bytes == 0
        assert list(cache._folder.iterdir()) == []
    finally:
        cache.close()


def test_a_process_that_takes_too_long_is_ended() -> None:
    process = LineProcess("code", b">>> never")
    with pytest.raises(ProcessDiedError):
        process.ask(b"import time; time.sleep(60)\n", 0.5)
    assert not process.running
    process.close()
    with pytest.raises(ProcessDiedError, match="ending"):
        process.ask(b"\n", 1)
