"""A shard whose rows are not exactly those of its objects is never staged."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from moderation.demo import POLICY_FILE
from moderation.errors import AccountingError
from moderation.policy_files.loading import load_policy
from moderation.records import ObjectRef, Shard
from moderation.results.paths import RunPaths
from moderation.results.shard_files import write_shard
from moderation.storage import Store


def test_a_missing_row_stops_the_shard_and_stages_nothing(tmp_path: Path) -> None:
    item = ObjectRef("memory://x/a.jpg", "e", 1, datetime(2026, 11, 21, tzinfo=UTC))
    shard, paths, output = Shard("s", (item,)), RunPaths("r", "2026-11-21", "f"), Store(str(tmp_path / "out"))
    with pytest.raises(AccountingError, match="1 objects planned"):
        write_shard(shard, [], load_policy(POLICY_FILE), 8, paths, output)
    assert not (tmp_path / "out").exists()
