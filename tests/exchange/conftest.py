"""Results that tests of exchanged files change."""

import shutil
from pathlib import Path

import pytest
from reviewed import write_results

from moderation.storage import Store


@pytest.fixture(scope="session")
def published_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("published")
    write_results(Store(str(folder)))
    return folder


@pytest.fixture
def results(published_once: Path, tmp_path: Path) -> str:
    return str(shutil.copytree(published_once, tmp_path / "results"))
