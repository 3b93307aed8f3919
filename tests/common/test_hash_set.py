"""Sets of digests, against Python's own sets."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from moderation.common.hash_set import HashSet, hashes


@given(st.lists(st.lists(st.sampled_from("abcdefghijklmnopqrstuvwxyz"), max_size=12), max_size=12))
def test_a_hash_set_recognises_what_it_has_seen_before(pages: list[list[str]]) -> None:
    found, known = HashSet(), set()
    for page in pages:
        fresh = found.add(hashes(page)).tolist()
        for text, new in zip(page, fresh, strict=True):
            assert new is (text not in known)
            known.add(text)
        assert len(found) == len(known)
    letters = list("abcdefghijklmnopqrstuvwxyz")
    assert found.contains(hashes(letters)).tolist() == [letter in known for letter in letters]


digests = st.tuples(
    st.sampled_from([b"\0" * 8, b"a" * 8, b"b" * 8, b"\xff" * 8]), st.sampled_from([b"\0" * 8, b"x" * 8, b"y" * 8])
)


@given(st.lists(st.lists(digests.map(b"".join), max_size=9), max_size=6))
def test_digests_that_share_a_half_are_told_apart(pages: list[list[bytes]]) -> None:
    found, known = HashSet(), set[bytes]()
    for page in pages:
        given = np.frombuffer(b"".join(page), "S16")
        assert found.contains(given).tolist() == [digest in known for digest in page]
        fresh = [digest not in known and digest not in page[:number] for number, digest in enumerate(page)]
        assert found.add(given).tolist() == fresh
        known.update(page)
        assert len(found) == len(known)


def test_texts_that_look_alike_have_digests_of_their_own() -> None:
    texts = ["", "\0", "a", "a\0", "a\0\0", "A", "ä", "a\u0308"]
    assert len({bytes(digest) for digest in hashes(texts)}) == len(texts)
