"""What a replay finds. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

SHOWN = 20
"""Maximum number of differences to show; all of them are counted."""

Prompts = Literal["stored", "computed", "none"]
"""Where the prompt embeddings came from: stored by the run, computed again with the model, or not available."""


@dataclass(frozen=True, slots=True)
class Difference:
    """One value that is not what the embeddings and the policy give."""

    uri: str
    table: str
    """decisions | scores | embeddings"""
    column: str
    """`row` where a whole row is missing, or is one too many"""
    stored: str
    recomputed: str
    rule: str | None = None
    """of a row of scores"""


@dataclass(frozen=True, slots=True)
class Replay:
    """One run, replayed."""

    run_id: str
    state: str
    """published | quarantined"""
    policy: str
    """name, version and hash, as the manifest gives them"""
    model: str
    prompts: Prompts
    scored: int = 0
    """images whose scores were recomputed"""
    errors: int = 0
    """images without scores whose decision was recomputed"""
    shards: int = 0
    shards_replayed: int = 0
    problems: tuple[str, ...] = ()
    """what is wrong with files, sums or identities, one line each"""
    differences: int = 0
    differing_images: int = 0
    by_column: Mapping[str, int] = field(default_factory=dict)
    """differences by table and column, such as `scores.score`"""
    shown: tuple[Difference, ...] = ()
    """the first `SHOWN` of them"""
    largest: float | None = None
    """the largest distance between a stored score and the recomputed one; None where all scores are the same"""
    seconds: float = 0.0

    @property
    def identical(self) -> bool:
        """Whether everything is as the run stored it."""
        return not self.problems and not self.differences
