"""Report pages to test with: a small policy, a run over it, and names that would do harm."""

from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser

from moderation.policy.schema import Policy
from moderation.records import Counts
from moderation.report.report_page import render
from moderation.results.aggregates import BINS, Aggregates, CleanExample, ErrorExample, RuleAggregate
from moderation.results.check_results import CheckResult
from moderation.results.example_images import Example
from moderation.results.history import EarlierRun
from moderation.results.manifest import Manifest, Timings

SOURCE = "s3://bucket/uploads"
HOSTILE = {
    "script": "<script>alert(1)</script>.jpg",
    "attribute": '" onmouseover="alert(1)" x=\'.jpg',
    "comment": "--><img src=https://evil.example/x onerror=alert(1)>",
    "style": "</style><style>@import url(https://evil.example/x.css)",
    "template": "{{ 7 * 7 }}{% raw %}",
    "override": "photo\u202egpj.exe",
    "newline": "line\nbreak\x00\x7f.jpg",
    "surrogate": "name\udcff.jpg",
    "long": "x" * 5000,
    "emoji": "שלום 👩\u200d🚀.jpg",
}


class Page(HTMLParser):
    """Elements with their attributes, and the text of the page, as a browser gets them."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len(attrs) == len(dict(attrs)), f"an attribute stands twice in {tag}"
        self.text += " "
        self.elements.append((tag, {name: value or "" for name, value in attrs}))

    def handle_data(self, data: str) -> None:
        self.text += data

    def named(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.elements if name == tag]


def a_policy(description: str = "What sellers may not show.") -> Policy:
    return Policy.model_validate(
        {
            "policy": "marketplace",
            "version": "2026.11",
            "owner": "trust-and-safety",
            "description": description,
            "model": {"name": "demo"},
            "contrast": ["a photo of a room"],
            "rules": [
                {"id": "firearms", "severity": "high", "prompts": ["a handgun", "a rifle"], "review": 0.6, "block": 0.9},
                {"id": "tobacco", "mode": "shadow", "severity": "critical", "prompts": ["a cigarette"], "review": 0.5},
                {"id": "money", "score": "similarity", "prompts": ["a bank note"], "review": 0.27, "block": 0.3},
                {"id": "fireworks", "mode": "off", "prompts": ["fireworks"]},
            ],
        }
    )


def a_manifest(policy: Policy, counts: Counts, **others: object) -> Manifest:
    fields: dict[str, object] = {
        "run_id": "20261121T140312Z-9f3a1c",
        "started_at": datetime(2026, 11, 21, 14, 3, tzinfo=UTC),
        "published_at": datetime(2026, 11, 21, 14, 21, tzinfo=UTC),
        "sources": SOURCE,
        "policy": policy.policy,
        "policy_version": policy.version,
        "policy_hash": policy.hash,
        "policy_text": "policy: marketplace\n# a comment\n",
        "model": "demo",
        "model_fingerprint": "2f9c1b7a4d3e8f60",
        "device": "cpu",
        "settings": {"batch_size": 256, "limits": {"max_bytes": 1}},
        "listed": 10_000 + counts.scored + counts.errors,
        "unchanged": 10_000,
        "counts": counts,
        "timings": Timings(
            wall_seconds=12.5, images_per_second=80.0, busy_seconds={"decode": 30.0, "list": 0.1}, bottleneck="decode"
        ),
        "checks": (
            CheckResult(name="accounting", description="`listed` adds up", severity="fail", passed=True),
            CheckResult(name="flag_rate", description="as ever", severity="warn", passed=False, unexpected=3),
        ),
        "versions": {"python": "3.11.7", "clip-moderation": "0.1.0"},
        "report": "reports/20261121T140312Z-9f3a1c/report.html",
        "files": (
            {"table": "decisions", "path": "decisions/date=2026-11-21/run=x/a.parquet", "rows": 700, "bytes": 1_500_000},
            {"table": "decisions", "path": "decisions/date=2026-11-21/run=x/b.parquet", "rows": 300, "bytes": 500_000},
        ),
    }
    return Manifest.model_validate(fields | others)


def a_rule(keys: list[str], low: float = 0.0, etag: str = '"1"') -> RuleAggregate:
    """A rule that flagged `keys`, each with two look-alikes, and has others near its threshold."""

    def example(key: str, score: float, action: str) -> Example:
        told = f"a prompt & {key}"[:80]
        return Example(f"{SOURCE}/{key}", etag, score, action, told, 0, copies=3, critical=key.startswith("sealed"))

    return RuleAggregate(
        low=low,
        high=1.0,
        histogram=tuple(10 ** (i % 5) if i % 3 else 0 for i in range(BINS)),
        minimum=low,
        maximum=0.97,
        examples=tuple(example(key, 0.97, "block") for key in keys),
        spread=tuple(example(key, 0.97, "block") for key in keys),
        near=tuple(example(f"near {key}", 0.588, "allow") for key in keys),
        thresholds=(0.6, 0.9),
        flagged=len(keys),
        prompts={f"a prompt & {key}"[:80]: 7 + i for i, key in enumerate(keys)},
    )


def an_earlier_run(days: int = 1, run_id: str = "20261120T140312Z-111111", **others: object) -> EarlierRun:
    fields: dict[str, object] = {
        "run_id": run_id,
        "started_at": datetime(2026, 11, 21, 14, 3, tzinfo=UTC) - timedelta(days=days),
        "listed": 10_000,
        "scored": 2_000,
        "errored": 0,
        "blocked": 3,
        "review": 7,
        "flagged": {"firearms": 10, "money": 1},
        "policy_hash": a_policy().hash,
        "model_fingerprint": "2f9c1b7a4d3e8f60",
    }
    return EarlierRun(**(fields | others))


COUNTS = Counts(
    scored=990,
    blocked=3,
    review=17,
    near_threshold=5,
    errored={"corrupt": 9, "storage_error": 1},
    flagged={"firearms": 20},
    shadow={"tobacco": 1234},
)


def a_page(
    keys: list[str],
    images: dict[tuple[str, int], str] | None = None,
    earlier: tuple[EarlierRun, ...] = (),
    data_docs: str | None = None,
    **others: object,
) -> str:
    policy = a_policy()
    aggregates = Aggregates(
        rules={"firearms": a_rule(keys), "tobacco": a_rule([]), "money": a_rule([], low=-1.0)},
        errors={"corrupt": tuple(ErrorExample(f"{SOURCE}/{key}", f"bad: {key}") for key in keys)},
        clean=tuple(CleanExample("00", f"{SOURCE}/clean {key}", "1", "firearms", 0.12, 0) for key in keys),
    )
    return render(a_manifest(policy, COUNTS, **others), policy, aggregates, images or {}, earlier, data_docs)


def a_page_full_of(key: str, images: dict[tuple[str, int], str] | None = None) -> str:
    """A page on which everything that others may write is `key`."""
    policy = a_policy()
    check = CheckResult(
        name="c",
        description=key,
        severity="fail",
        passed=False,
        unexpected=1,
        examples=(key,),
        observed=key,
        limit=key,
        hint=key,
    )
    manifest = a_manifest(
        policy,
        Counts(scored=9, errored={"corrupt": 1}),
        run_id=key[:100],
        state="quarantined",
        sources=f"s3://{key}",
        model=key,
        device=key,
        policy_text=f"# {key}\r\npolicy: x",
        policy_includes={key: key},
        checks=(check,),
        settings={key: key},
        versions={key: key},
    )
    aggregates = Aggregates(
        rules={"firearms": a_rule([key])},
        errors={"corrupt": (ErrorExample(f"{SOURCE}/{key}", f"bad: {key}"),)},
        clean=(CleanExample("00", f"{SOURCE}/{key}", "1", None, None, 0),),
    )
    return render(manifest, policy, aggregates, images or {}, (an_earlier_run(run_id=key),))


def words_of(html: str) -> str:
    return " ".join(Page(html).text.split())


NOTHING = Timings(wall_seconds=0, images_per_second=0, busy_seconds={}, bottleneck="none")


def a_run_of(counts: Counts, **others: object) -> str:
    policy = a_policy(description="First.\n\nSecond.")
    manifest = a_manifest(policy, counts, timings=NOTHING, files=(), versions={}, settings={}, **others)
    return words_of(render(manifest, policy, Aggregates(), {}))
