"""Sets of digests, against Python's own sets."""

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


def test_texts_that_look_alike_have_digests_of_their_own() -> None:
    texts = ["", "\0", "a", "a\0", "a\0\0", "A", "ä", "a\u0308"]
    assert len({bytes(digest) for digest in hashes(texts)}) == len(texts)
