"""Reading the exemplars of a policy: which images they are, by their content, and whether they can be used."""

import hashlib
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

from moderation.common.findings import Finding
from moderation.errors import ImageError
from moderation.images.decoding import DecodedImage
from moderation.images.limits import ImageLimits
from moderation.policy.exemplars import Exemplar, Exemplars
from moderation.policy.including import Merged
from moderation.policy.schema import ImageSource, Mode, Policy
from moderation.policy.yaml_source import Location
from moderation.policy_files.exemplar_sources import MAX_EXEMPLARS, Key, Named, named_images, too_many
from moderation.policy_files.places import AssetError, content

_THREADS = 8
_SHOWN = 5
"""Mistakes shown of one entry."""
_SMALL = 64
"""Pixels: JPEGs are decoded at reduced scale, which shows as well whether they can be."""
_decoded: dict[str, str] = {}
"""By SHA-256, why an image cannot be decoded; empty where it can. A process reads a policy more than once."""


@dataclass(frozen=True, slots=True)
class _Placed:
    exemplar: Exemplar
    place: Location
    by_name: bool
    """whether the policy itself names it, not a pattern or a file"""


class ExemplarReader:
    """Reads the exemplars of a policy. What is wrong with them is in `findings`, with its place."""

    def __init__(self, folder: Path, merged: Merged) -> None:
        self._folder, self._merged = folder, merged
        self.findings: list[Finding] = []

    def read(
        self, policy: Policy, background: tuple[Exemplar, ...] | None = None
    ) -> tuple[dict[str, Exemplars], tuple[Exemplar, ...]]:
        """The exemplars of each rule that is scored, and the background. `background`: instead of what the policy names."""
        liked: dict[str, tuple[str, _Placed]] = {}
        found = {}
        for at, rule in enumerate(policy.rules):
            if rule.mode is Mode.OFF or not rule.like:
                continue
            like = self._images(rule.like, ("rules", at, "like"), "like", rule.id)
            unlike = self._images(rule.unlike, ("rules", at, "unlike"), "unlike", rule.id)
            own = {one.exemplar.sha256: (rule.id, one) for one in like}
            self._conflicts(unlike, own)
            liked = {**own, **liked}
            found[rule.id] = Exemplars(_exemplars(like), _exemplars(unlike))
        if background is not None or not found:
            return found, background or ()
        ordinary = self._images(policy.background, ("background",), "background", "")
        self._conflicts(ordinary, liked)
        return found, _exemplars(ordinary)

    def _images(self, sources: tuple[ImageSource, ...], place: Location, key: Key, rule: str) -> list[_Placed]:
        """Every image once, in order."""
        kept: dict[str, _Placed] = {}
        for at, source in enumerate(sources):
            try:
                named = named_images(source, self._folder, key, rule)
                for remark in named.remarks:
                    self._warn((*place, at), remark, "")
                by_name = isinstance(source, str) and named.images[0].name == source
                for one in self._read(named.images, (*place, at), by_name=by_name):
                    first = kept.setdefault(one.exemplar.sha256, one)
                    if first is not one and one.by_name:
                        message = f"{one.exemplar.name!r} is the same image as {first.exemplar.name!r}: it counts once"
                        self._warn(one.place, message, "remove one of them")
            except AssetError as error:
                self._add((*place, at), error)
        if len(kept) > MAX_EXEMPLARS:
            self._add(place, too_many(len(kept)))
        return list(kept.values())

    def _read(self, images: Iterable[Named], place: Location, *, by_name: bool) -> Iterator[_Placed]:
        wrong = []
        with ThreadPoolExecutor(_THREADS, "exemplars") as pool:
            for named, found in zip(images, pool.map(_exemplar, images), strict=True):
                if isinstance(found, Exemplar):
                    yield _Placed(found, place, by_name)
                else:
                    begin = f"{named.place}: " if named.place else ""
                    wrong.append(AssetError(begin + found.message, found.hint))
        for error in islice(wrong, _SHOWN):
            self._add(place, error)
        if len(wrong) > _SHOWN:
            self._add(place, AssetError(f"{len(wrong) - _SHOWN:,} more images cannot be used"))

    def _conflicts(self, others: Iterable[_Placed], liked: dict[str, tuple[str, _Placed]]) -> None:
        for other in others:
            if other.exemplar.sha256 in liked:
                rule, like = liked[other.exemplar.sha256]
                same = (
                    "" if other.exemplar.name == like.exemplar.name else f" is the same image as {like.exemplar.name!r}, which"
                )
                message = f"{other.exemplar.name!r}{same} is what the rule {rule!r} looks for"
                self._add(other.place, AssetError(message, "remove it here, or from the rule's `like`"))

    def _add(self, place: Location, error: AssetError) -> None:
        self.findings.append(self._merged.finding(place, error.message, error.hint))

    def _warn(self, place: Location, message: str, hint: str) -> None:
        self._merged.warnings.append(replace(self._merged.finding(place, message, hint), level="warning"))


def _exemplars(placed: Iterable[_Placed]) -> tuple[Exemplar, ...]:
    return tuple(one.exemplar for one in placed)


def _exemplar(named: Named) -> Exemplar | AssetError:
    """The image by its content. Where that is known, the file is not read: it is when its embedding is needed."""
    if named.sha256:
        return Exemplar(named.name, named.sha256, named.location)
    try:
        data = content(named.name, named.location)
    except AssetError as error:
        return error
    digest = hashlib.sha256(data).hexdigest()
    if digest not in _decoded:
        _decoded[digest] = _why_undecodable(data)
    if _decoded[digest]:
        return AssetError(f"{named.name!r} cannot be decoded: {_decoded[digest]}", "name another image")
    return Exemplar(named.name, digest, named.location)


def _why_undecodable(data: bytes) -> str:
    try:
        for _ in DecodedImage(data, ImageLimits(), _SMALL).frames():
            pass
    except ImageError as error:
        return f"{error.code.value}: {error.detail}"
    return ""
