"""What a draft of a policy does to the stored images, computed in the background where scores are missing."""

import hashlib
import threading
from collections import OrderedDict
from dataclasses import dataclass

from moderation.errors import SettingsError
from moderation.policy.schema import Policy
from moderation.results.archive import Archive, open_archive
from moderation.results.stored_policy import newest_policy
from moderation.studio.background import Background
from moderation.studio.effect import Side
from moderation.studio.population import Population, Step, meaning
from moderation.studio.studio import Studio

DRAFTS_KEPT = 3
"""Each takes a byte per image and rule."""


@dataclass(frozen=True, slots=True)
class Draft:
    """A draft with its scores, beside the policy of the newest run with the same model."""

    key: str
    """names it in requests of the page"""
    policy: Policy
    side: Side
    published: Policy
    before: Side
    population: Population


@dataclass(frozen=True, slots=True)
class Working:
    """How far it is."""

    what: str
    share: float
    """in 0 to 1"""


@dataclass(frozen=True)
class _Base:
    population: Population
    published: Policy
    side: Side


class PolicyEffects:
    """Drafts of one policy file after another. Threads may ask at the same time."""

    def __init__(self, studio: Studio) -> None:
        self._studio = studio
        self._lock = threading.Lock()
        self._base: tuple[tuple[object, ...], Background[_Base]] | None = None
        self._scoring: tuple[frozenset[str], Background[None]] | None = None
        self._drafts: OrderedDict[str, Draft] = OrderedDict()

    def draft(self, policy: Policy, wait_s: float = 0.0) -> Draft | Working:
        """The effect of a policy; how far it is, where it takes longer than `wait_s` seconds.

        Raises:
            ModerationError: it cannot be computed.
        """
        key = self._key(policy)
        with self._lock:
            known = self._drafts.get(key)
        if known is not None:
            return known
        reading = self._reading(policy)
        if not reading.wait(wait_s):
            return Working("Reading the stored images", reading.share)
        base = reading.result()
        scores = base.population.scores(policy)
        if scores is None:
            scoring = self._scored(base.population, policy)
            if not scoring.wait(wait_s):
                return Working(f"Scoring {len(base.population):,} images", scoring.share)
            scoring.result()
            scores = base.population.scores(policy)
            if scores is None:
                raise SettingsError("the policy has too many rules for the memory that the studio uses")
        draft = Draft(key, policy, Side(policy.active_rules, scores), base.published, base.side, base.population)
        with self._lock:
            self._drafts[key] = draft
            while len(self._drafts) > DRAFTS_KEPT:
                self._drafts.popitem(last=False)
        return draft

    def known(self, key: str) -> Draft:
        """A draft that was computed. Raises `SettingsError`."""
        with self._lock:
            found = self._drafts.get(key)
        if found is None:
            raise SettingsError("this draft was forgotten: type something, or reload the page")
        return found

    def _key(self, policy: Policy) -> str:
        runs = " ".join(sorted(manifest.run_id for manifest in self._studio.manifests()))
        return hashlib.sha256(f"{policy.hash} {runs}".encode()).hexdigest()[:24]

    def _reading(self, policy: Policy) -> Background[_Base]:
        runs = frozenset(manifest.run_id for manifest in self._studio.manifests())
        if not runs:
            raise SettingsError("no run is published yet: there are no images to show the effect on")
        with self._lock:
            wanted = (runs, policy.model.label)
            if self._base is None or self._base[0] != wanted or self._base[1].failed:
                if self._base is not None:
                    self._base[1].stop()
                archive = self._archive(policy.model.label)
                self._base = wanted, Background("population", lambda step: self._read(archive, step))
                self._drafts.clear()
            return self._base[1]

    def _archive(self, model: str) -> Archive:
        """The images of a model; if there are several of its name, of the newest run's."""
        newest = next((one.model_fingerprint for one in self._studio.manifests() if one.model == model), None)
        return open_archive(self._studio.output, None if newest else model, fingerprint=newest)

    def _read(self, archive: Archive, step: Step) -> _Base:
        published = newest_policy(archive)
        compiled = self._studio.model.compiled(published, archive)
        population = Population.read(archive, compiled, step)
        scores = population.scores(published)
        if scores is None:
            raise SettingsError("the published policy has too many rules for the memory that the studio uses")
        return _Base(population, published, Side(published.active_rules, scores))

    def _scored(self, population: Population, policy: Policy) -> Background[None]:
        rules = population.missing(policy)
        wanted = frozenset(meaning(policy, rule) for rule in rules)
        with self._lock:
            if self._scoring is None or self._scoring[0] != wanted or self._scoring[1].failed:
                if self._scoring is not None:
                    self._scoring[1].stop()  # nobody waits for what was typed before
                only = policy.model_copy(update={"rules": rules})
                self._scoring = wanted, Background("scores", lambda step: self._score(population, only, step))
            return self._scoring[1]

    def _score(self, population: Population, policy: Policy, step: Step) -> None:
        population.score(self._studio.model.compiled(policy, population.archive), step)
