"""The stored images that a policy's effect is shown on, with their scores in memory: float32, one array per rule.

Rules that mean the same share an array, so that a policy whose thresholds alone change needs no new scores.
"""

import hashlib
import json
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from moderation.policy.compiled import CompiledPolicy
from moderation.policy.schema import Policy, Rule
from moderation.results.archive import Archive
from moderation.results.stored_images import StoredImages

MOST_BYTES = 1 << 30
"""Of scores in memory, beside those in use."""
Step = Callable[[float], None]
Scores = NDArray[np.float32]
"""[N] the scores of one rule"""


def meaning(policy: Policy, rule: Rule) -> str:
    """What a rule's scores depend on: rules with equal meanings give every image the same score."""
    facts = rule.score.facts
    assets = policy.assets
    head = assets.heads.get(rule.id)
    own = assets.exemplars.get(rule.id)
    content = [
        rule.score.value,
        policy.model.model_dump(mode="json"),
        policy.templates if facts.needs == "prompts" else (),
        rule.prompts if facts.needs == "prompts" else (),
        sorted({*rule.contrast, *policy.contrast}) if facts.uses_contrast else (),
        head.digest if head is not None else "",
        [[one.sha256 for one in part] for part in (own.like, own.unlike, assets.background)] if own is not None else [],
    ]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()


@dataclass(frozen=True)
class _Part:
    uris: pa.Array
    scores: NDArray[np.float32]
    """[R, N]"""


class Population:
    """Every image of an archive once, in the archive's order. Threads may ask at the same time."""

    def __init__(self, archive: Archive, uris: pa.ChunkedArray, days: float) -> None:
        self.archive = archive
        self.uris = uris
        """[N]"""
        self.days = days
        """from the first run to the last; at least 1"""
        self._scores: OrderedDict[str, Scores] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self.uris)

    @classmethod
    def read(cls, archive: Archive, compiled: CompiledPolicy, step: Step) -> "Population":
        """Read the images and their scores under a policy."""
        parts = _parts(archive, compiled, step)
        began = [run.started_at for run in archive.runs]
        days = (max(began) - min(began)).total_seconds() / 86_400 if began else 0.0
        found = cls(archive, pa.chunked_array([part.uris for part in parts], pa.string()), max(1.0, days))
        found._keep(compiled, [part.scores for part in parts])
        return found

    def scores(self, policy: Policy) -> list[Scores] | None:
        """The scores of each active rule of a policy, in their order; None if some are yet to be computed (`score`)."""
        with self._lock:
            keys = [meaning(policy, rule) for rule in policy.active_rules]
            if any(key not in self._scores for key in keys):
                return None
            for key in keys:
                self._scores.move_to_end(key)
            return [self._scores[key] for key in keys]

    def missing(self, policy: Policy) -> tuple[Rule, ...]:
        """The rules of a policy without scores so far."""
        with self._lock:
            return tuple(rule for rule in policy.active_rules if meaning(policy, rule) not in self._scores)

    def score(self, compiled: CompiledPolicy, step: Step) -> None:
        """Compute the scores of the rules of a policy."""
        self._keep(compiled, [part.scores for part in _parts(self.archive, compiled, step)])

    def place(self, images: NDArray[np.int64]) -> list[str]:
        """The URIs of some images."""
        found: list[str] = self.uris.take(pa.array(images)).to_pylist()
        return found

    def _keep(self, compiled: CompiledPolicy, parts: Sequence[NDArray[np.float32]]) -> None:
        by_rule = {
            meaning(compiled.policy, rule): np.concatenate([part[at] for part in parts]) if parts else np.zeros(0, np.float32)
            for at, rule in enumerate(compiled.rules)
        }
        with self._lock:
            self._scores.update(by_rule)
            while sum(scores.nbytes for scores in self._scores.values()) > MOST_BYTES and len(self._scores) > len(by_rule):
                self._scores.popitem(last=False)


def _parts(archive: Archive, compiled: CompiledPolicy, step: Step) -> list[_Part]:
    def work(images: StoredImages) -> _Part:
        count = images.scored.num_rows
        scores = compiled.scores(images.vectors)
        if len(scores) != count:
            scores = np.maximum.reduceat(scores, images.starts[:-1], axis=0) if count else scores[:0]
        return _Part(images.scored["uri"].combine_chunks(), np.ascontiguousarray(scores.T))

    parts: list[_Part] = []
    for part in archive.each((), work):
        parts.append(part)
        step(len(parts) / max(1, len(archive.shards)))
    return parts
