"""Backtests to make pages of: small, large, and full of names that would do harm."""

from datetime import date, timedelta

from report_pages import SOURCE

from moderation.policy.schema import Policy
from moderation.results.archive import ModelRuns
from moderation.studies.backtest.backtest_result import Actions, Backtest, BeforeAfter, Changed, RuleChange

MODEL = ModelRuns("ViT-B-32/openai", "2f9c1b7a4d3e8f60", 12, 9_900, "bf16", "fast")
PAIRS = [(before, after) for before in ("allow", "review", "block") for after in ("allow", "review", "block")]


def a_policy(**keys: object) -> Policy:
    return Policy.model_validate(
        {
            "policy": "marketplace",
            "version": "2026.12",
            "model": {"name": "demo"},
            "contrast": ["a photo of a room"],
            "unreadable": "review",
            "rules": [
                {"id": "firearms", "severity": "high", "prompts": ["a handgun"], "review": 0.6, "block": 0.9},
                {"id": "tobacco", "severity": "critical", "prompts": ["a cigarette"], "review": 0.5},
                {"id": "fireworks", "mode": "shadow", "prompts": ["fireworks"], "review": 0.4},
            ],
            **keys,
        }
    )


def a_changed(key: str, before: str = "allow", after: str = "block", **others: object) -> Changed:
    fields: dict[str, object] = {
        "uri": f"{SOURCE}/{key}",
        "etag": '"1"',
        "frame": 0,
        "before": before,
        "after": after,
        "rule": "firearms",
        "score": 0.912,
        "threshold": 0.9,
    }
    return Changed(**(fields | others))


def some_days(count: int, first: date = date(2026, 9, 1)) -> dict[str, BeforeAfter]:
    """Every third day has no image."""
    one = BeforeAfter(Actions(90, 7, 3), Actions(85, 9, 6), 8)
    return {str(first + timedelta(i)): one for i in range(count) if i % 3 != 1}


def a_backtest(keys: list[str], **others: object) -> Backtest:
    """Each key is allow → block, and another of the same name near a threshold."""
    transitions = dict.fromkeys(PAIRS, 0) | {
        ("allow", "allow"): 9_000,
        ("review", "review"): 700,
        ("block", "block"): 230,
        ("allow", "block"): 12,
        ("review", "block"): 5,
        ("allow", "review"): 40,
        ("block", "review"): 3,
    }
    near = tuple(a_changed(f"near {key}", "allow", "allow", rule="firearms", score=0.5876, threshold=0.6) for key in keys)
    fields: dict[str, object] = {
        "against": "published",
        "old": "marketplace 2026.11 (0123456789abcdef)",
        "new": "marketplace 2026.12 (fedcba9876543210)",
        "archive": MODEL,
        "left_out": (ModelRuns("ViT-L-14/openai", "1111111111111111", 1, 500, "bf16", "fast"),),
        "scored": 9_900,
        "errors": 90,
        "transitions": transitions,
        "rules": {
            "firearms": RuleChange(700, 745, 52, 7, near),
            "tobacco": RuleChange(200, 200, 0, 0),
            "fireworks": RuleChange(
                0,
                0,
                0,
                0,
                would=2,
                would_flag=(a_changed("rocket.jpg", "allow", "review", rule="fireworks", score=0.7, threshold=0.4),),
            ),
            "knives": RuleChange(17, 0, 0, 17),
        },
        "prefixes": {"listings/": BeforeAfter(Actions(9, 1, 0), Actions(8, 1, 1), 1)}
        | {key: BeforeAfter(Actions(90, 7, 3), Actions(85, 9, 6), 8) for key in keys},
        "days": some_days(60),
        "examples": (
            *(a_changed(key) for key in keys),
            a_changed("was.jpg", "block", "review", rule="knives", score=None, threshold=None),
            a_changed("smoke.gif", "allow", "review", rule="tobacco", score=0.5, threshold=0.5, frame=3),
            a_changed("broken.jpg", "review", "block", rule=None, score=None, threshold=None),
        ),
        "first_day": "2026-09-01",
        "last_day": "2026-10-30",
        "seconds": 1.5,
        "where": "width > 500",
        "not_chosen": 1_200,
        "runs_left_out": 1,
        "images_left_out": 800,
    }
    fields |= others
    return Backtest(**{"total": totals(fields["transitions"])} | fields)


def totals(transitions: dict[tuple[str, str], int]) -> BeforeAfter:
    before, after = (
        Actions(*(sum(n for pair, n in transitions.items() if pair[side] == action) for action in ("allow", "review", "block")))
        for side in (0, 1)
    )
    return BeforeAfter(before, after, sum(n for (b, a), n in transitions.items() if a != b))
