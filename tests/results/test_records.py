"""Records that travel between processes."""

import pickle
from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from moderation.records import Batch, ObjectRef, Shard

times = st.datetimes(datetime(1970, 1, 1), datetime(2200, 1, 1)).map(lambda time: time.replace(tzinfo=UTC))
refs = st.builds(ObjectRef, st.text(), st.text(), st.integers(0, 1 << 50), times)


@given(st.lists(refs, max_size=5).map(tuple), st.text())
def test_shards_and_batches_arrive_as_they_were_sent(objects: tuple[ObjectRef, ...], name: str) -> None:
    for record in (Shard(name, objects), Batch(name, objects)):
        again = pickle.loads(pickle.dumps(record))  # noqa: S301
        assert again == record
        assert type(again) is type(record)
