"""The pipeline, top to bottom: start here.

    list ─► plan shards ─► fetch ─► decode ─► embed ─► score ─► decide ─► check ─► publish ─► report
    └─ driver + Ray ────┘ └── Ray actor (one per GPU) ─────────────────┘ └─ driver + Ray tasks ────┘

`run` does all of it; each stage is a file of `moderation/stages/`. `flows/moderate.py` calls the same stages, one Prefect task
each. What an actor does with a batch begins in `moderation/scoring/image_scorer.py`.
"""

from moderation.planning.inputs import check_inputs
from moderation.settings import RunSettings
from moderation.stages.checking import check
from moderation.stages.publication import publish_or_quarantine
from moderation.stages.reporting import Outcome, published, report
from moderation.stages.scoring import Scored, score
from moderation.stages.session import Session, session

__all__ = ["Outcome", "Scored", "Session", "check", "publish_or_quarantine", "published", "report", "run", "score", "session"]


def run(settings: RunSettings) -> Outcome:
    """Moderate everything in `settings.sources` and publish the results.

    Raises:
        UserError: a setting, the policy, the source, the output or the model; nothing was published.
        QuarantinedError: quality checks failed; the run is in `_quarantine/`.
        RunError: the run could not finish; resume it with its run id.
    """
    inputs = check_inputs(settings)
    with session(inputs) as running:
        scored = score(running)
        checks = check(running, scored)
        manifest = publish_or_quarantine(running, scored, checks)
        return report(running, scored, manifest)
