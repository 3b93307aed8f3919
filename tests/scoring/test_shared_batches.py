"""Calls that score at the same time: they share the model's batches and take turns with the threads."""

import threading
import time
from datetime import UTC, datetime

import numpy as np
import pytest
from pictures import encoded, picture
from support import make_policy

from moderation import ImageScorer, ObjectRef
from moderation.model.jpeg_decoder import ReadyPicture
from moderation.model.preprocessing import Preprocessing
from moderation.scoring.options import ScorerOptions
from moderation.scoring.shared_batches import Call, SharedBatches

NOW = datetime(2026, 11, 21, tzinfo=UTC)


class FirstPixel:
    """An encoder whose embedding tells a picture's first pixel, and which remembers the sizes of its batches."""

    name, fingerprint, dim, batch_size, logit_scale, logit_bias = "first pixel", "0" * 16, 2, 8, 1.0, None
    preprocessing = Preprocessing(16, (0.5,) * 3, (0.5,) * 3)

    def __init__(self, gate=None):
        self.sizes = []
        self.threads = set()
        self.gate = gate or threading.Event()
        if gate is None:
            self.gate.set()

    def start(self, pixels):
        self.threads.add(threading.get_ident())
        assert self.gate.wait(20)
        self.sizes.append(len(pixels))
        vectors = np.array([[p[0, 0, 0], 1] for p in pixels], np.float32)
        return lambda: vectors

    def encode_texts(self, texts):
        return np.tile(np.array([1, 0], np.float32), (len(texts), 1))


def images(*values):
    return [np.full((16, 16, 3), value, np.uint8) for value in values]


def values(call):
    vectors, _ = call.vectors()
    return np.concatenate(vectors)[:, 0].astype(int).tolist()


@pytest.fixture
def shared():
    made = []

    def make(encoder):
        made.append(SharedBatches(encoder))
        return made[-1]

    yield make
    for batches in made:
        batches.close()


def test_each_call_gets_its_own_vectors_in_order(shared):
    encoder = FirstPixel()
    batches = shared(encoder)
    with Call(batches) as one, Call(batches) as two:
        for n in range(20):
            one.add(images(n))
            two.add(images(100 + n, 200 - n))
    assert values(one) == list(range(20))
    assert values(two) == [v for n in range(20) for v in (100 + n, 200 - n)]
    assert encoder.sizes == [8] * 7 + [4]
    assert len(encoder.threads) == 1, "torch has OpenMP threads for each thread that enters it"


def test_a_partial_batch_is_filled_with_images_of_the_next_call(shared):
    encoder = FirstPixel()
    batches = shared(encoder)
    two = Call(batches)
    with Call(batches) as one:
        one.add(images(1, 2, 3))
        two.__enter__()
    two.add(images(4, 5, 6, 7, 8))
    assert values(one) == [1, 2, 3]
    assert encoder.sizes == [8]
    two.__exit__()
    assert values(two) == [4, 5, 6, 7, 8]


def test_a_call_with_all_its_images_does_not_wait_forever_for_a_slow_one(shared):
    encoder = FirstPixel()
    batches = shared(encoder)
    with Call(batches) as slow:
        with Call(batches) as one:
            one.add(images(1, 2, 3))
        assert values(one) == [1, 2, 3]
        slow.add(images(4))
    assert values(slow) == [4]
    assert encoder.sizes == [3, 1]


def test_a_call_without_pictures_has_no_vectors(shared):
    with Call(shared(FirstPixel())) as call:
        pass
    assert call.vectors() == ([], 0)


def test_pictures_are_not_piled_up_before_a_slow_model(shared):
    gate = threading.Event()
    encoder = FirstPixel(gate)
    batches = shared(encoder)
    call = Call(batches)

    def add():
        with call:
            call.add(images(*range(100)))

    thread = threading.Thread(target=add)
    thread.start()
    time.sleep(0.2)
    assert call.added < 4 * 8
    gate.set()
    thread.join(20)
    assert values(call) == list(range(100))


def test_what_the_model_raises_is_raised_by_all_calls_of_the_batch_and_no_other(shared):
    class Fails(FirstPixel):
        def start(self, pixels):
            if any(p[0, 0, 0] == 13 for p in pixels):
                raise MemoryError("out of memory")
            return super().start(pixels)

    batches = shared(Fails())
    with Call(batches) as one, Call(batches) as two:
        one.add(images(*range(10)))
        two.add(images(13, 14, 15))
    for call in (one, two):
        with pytest.raises(MemoryError, match="out of memory"):
            call.vectors()
    with Call(batches) as three:
        three.add(images(1, 2))
    assert values(three) == [1, 2]


# --- the scorer ------------------------------------------------------------------------------------------------------------


def refs(count, where="x"):
    return [ObjectRef(f"memory://{where}/{i}", "e", 1000, NOW) for i in range(count)]


def numbered(item):
    return encoded(picture(int(item.uri.rpartition("/")[2])))


def test_a_slow_object_does_not_hold_up_those_behind_it():
    seen, gate = [], threading.Event()

    def read(item):
        if item.uri.endswith("/0"):
            assert gate.wait(20)
        seen.append(item.uri)
        if len(seen) == 39:
            gate.set()
        return numbered(item)

    with ImageScorer(FirstPixel(), make_policy({}), ScorerOptions(fetch_threads=8, decode_threads=1), read=read) as scorer:
        assert scorer.score(refs(40)).summary.counts.scored == 40
    assert seen[-1].endswith("/0")


def test_a_second_call_begins_when_all_of_the_first_is_under_way():
    """The second begins when all of the first is on its way, so that they do not both end at once."""
    order, lock = [], threading.Lock()

    def read(item):
        with lock:
            order.append(item.uri[9:10])
        return numbered(item)

    started = threading.Event()

    def look_up(uri):
        started.set()
        return ObjectRef(uri, "e", 1000, NOW)

    with ImageScorer(
        FirstPixel(), make_policy({}), ScorerOptions(fetch_threads=2, decode_threads=1), read=read, look_up=look_up
    ) as scorer:
        first = [item._replace(etag="") for item in refs(60, "a")]
        threads = [threading.Thread(target=scorer.score, args=(batch,)) for batch in (first, refs(60, "b"))]
        threads[0].start()
        assert started.wait(20)
        threads[1].start()
        for thread in threads:
            thread.join(20)
    assert sorted(order) == ["a"] * 60 + ["b"] * 60
    assert order[:40] == ["a"] * 40


def test_an_unexpected_error_is_raised_and_the_next_call_works():
    def read(item):
        if item.uri.endswith("/7"):
            raise ZeroDivisionError("a bug")
        return numbered(item)

    with ImageScorer(FirstPixel(), make_policy({}), ScorerOptions(fetch_threads=2, decode_threads=1), read=read) as scorer:
        with pytest.raises(ZeroDivisionError, match="a bug"):
            scorer.score(refs(60))
        assert scorer.score(refs(7)).summary.counts.scored == 7


def test_a_jpeg_decoder_is_asked_before_pillow():
    asked = []

    class Decoder:
        def decode(self, data, orientation):
            asked.append(orientation)
            return ReadyPicture(images(77)[0], picture(3).convert("L")) if len(asked) > 1 else None

    files = [encoded(picture(0)), encoded(picture(1), "JPEG"), encoded(picture(2), "JPEG")]
    read = lambda item: files[int(item.uri.rpartition("/")[2])]  # noqa: E731
    with ImageScorer(
        FirstPixel(), make_policy({}), ScorerOptions(fetch_threads=1, decode_threads=1), read=read, jpeg_decoder=Decoder()
    ) as scorer:
        rows = scorer.score(refs(3))
    assert asked == [1, 1]
    assert rows.decisions["format"].to_pylist() == ["PNG", "JPEG", "JPEG"]
    assert [int(row[0]) for row in rows.embeddings["embedding"].to_pylist()][2] == 77
