"""A policy's own tests: judging its `examples`, precision and recall per rule, and the result as JUnit XML."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal
from xml.etree import ElementTree

from moderation.errors import ErrorCode
from moderation.policy.explanation import Explanation
from moderation.policy.schema import Action, Example, Mode, Policy

Verdict = Literal["pass", "miss", "error"]

_NOT_HAD = {
    ErrorCode.NOT_FOUND,
    ErrorCode.CHANGED,
    ErrorCode.ACCESS_DENIED,
    ErrorCode.STORAGE_ERROR,
    ErrorCode.ARCHIVED,
    ErrorCode.WORKER_KILLED,
    ErrorCode.WORKER_TIMEOUT,
    ErrorCode.INTERNAL,
}
"""Errors that say nothing about the image: an example that ends in one is broken, whatever it expects."""


@dataclass(frozen=True, slots=True)
class ExampleResult:
    """What became of one example."""

    image: str
    """as the policy names it"""
    verdict: Verdict
    """`error`: the image could not be read, so nothing was tested"""
    expected: str
    """`allow`, or `firearms: block, knives: allow`"""
    found: str
    """the same for what came; the error where there was one"""
    why: str
    """what decided, for a miss; else empty"""


@dataclass(frozen=True, slots=True)
class RuleAccuracy:
    """One rule over the examples that say something about it: does it act where it should?"""

    rule: str
    mode: Mode
    true_positives: int
    false_positives: int
    false_negatives: int
    true_negatives: int

    @property
    def examples(self) -> int:
        """How many examples say something about the rule."""
        return self.true_positives + self.false_positives + self.false_negatives + self.true_negatives

    @property
    def precision(self) -> float | None:
        """Of the examples that the rule flags, the share that it should; None where it flags none."""
        return _ratio(self.true_positives, self.true_positives + self.false_positives)

    @property
    def recall(self) -> float | None:
        """Of the examples that the rule should flag, the share that it does; None if there are none."""
        return _ratio(self.true_positives, self.true_positives + self.false_negatives)


def judge(examples: Sequence[Example], explanations: Sequence[Explanation]) -> tuple[ExampleResult, ...]:
    """Compare every example with the explanation of its image, given in the same order.

    An expected action for the image must be the image's action, and an expected action of a rule that rule's own,
    which for a shadow rule is what it would do. A rule that is off does nothing: `allow`.
    """
    return tuple(_judge(example, found) for example, found in zip(examples, explanations, strict=True))


def accuracy(policy: Policy, examples: Sequence[Example], explanations: Sequence[Explanation]) -> tuple[RuleAccuracy, ...]:
    """Precision and recall of every rule that is scored, in file order.

    An example says something about a rule if it names it, or if it expects `allow`: then no live rule may act. That an image
    should be reviewed or blocked does not say by which rule. Images that could not be read say nothing.
    """
    return tuple(_count(rule.id, rule.mode, _pairs(rule.id, rule.mode, examples, explanations)) for rule in policy.active_rules)


def junit_xml(policy: Policy, results: Sequence[ExampleResult]) -> bytes:
    """The results as a JUnit file, which CI systems show: one test case per example."""
    counts = {verdict: sum(r.verdict == verdict for r in results) for verdict in ("miss", "error")}
    numbers = {"tests": str(len(results)), "failures": str(counts["miss"]), "errors": str(counts["error"])}
    root = ElementTree.Element("testsuites", {"name": "moderate policy test", **numbers})
    suite = ElementTree.SubElement(root, "testsuite", {"name": policy.policy, **numbers})
    for result in results:
        case = ElementTree.SubElement(suite, "testcase", {"classname": policy.policy, "name": _xml(result.image)})
        if result.verdict != "pass":
            message = _xml(f"expected {result.expected}; got {result.found}")
            tag = "failure" if result.verdict == "miss" else "error"
            ElementTree.SubElement(case, tag, {"message": message}).text = _xml(result.why or result.found)
    ElementTree.indent(root)
    found: bytes = ElementTree.tostring(root, encoding="utf-8", xml_declaration=True)
    return found + b"\n"


def _judge(example: Example, found: Explanation) -> ExampleResult:
    expect = example.expect
    expected = _in_words(expect.items()) if isinstance(expect, dict) else expect.value
    if found.error_code is not None:
        error = f"{found.error_code}: {found.error_detail}"
        if isinstance(expect, dict) or found.error_code in _NOT_HAD:
            return ExampleResult(example.image, "error", expected, error, "")
        same = expect is found.action
        why = "" if same else f"the policy says `{found.decided_by}: {found.action.value}`"
        return ExampleResult(example.image, "pass" if same else "miss", expected, f"{found.action.value} ({error})", why)
    if isinstance(expect, dict):
        actions = {rule.rule: rule.action for rule in found.rules}
        wrong = [rule for rule, action in expect.items() if actions.get(rule, Action.ALLOW) is not action]
        came = _in_words((rule, actions.get(rule, Action.ALLOW)) for rule in expect)
    else:
        wrong = [found.top_rule or ""] if expect is not found.action else []
        came = found.action.value
    why = "; ".join(_why(rule, found) for rule in wrong)
    return ExampleResult(example.image, "miss" if wrong else "pass", expected, came, why)


def _why(rule_id: str, found: Explanation) -> str:
    rule = next((rule for rule in found.rules if rule.rule == rule_id), None)
    if rule is None:
        return f"{rule_id} is off" if rule_id else "no rule is live"
    return f"{rule.rule} scored {rule.score:.3f}, {rule.distance}; {rule.kind.facts.closest}: {rule.prompt}"


def _in_words(actions: Iterable[tuple[str, Action]]) -> str:
    return ", ".join(f"{rule}: {action.value}" for rule, action in actions)


def _pairs(
    rule_id: str, mode: Mode, examples: Sequence[Example], explanations: Sequence[Explanation]
) -> Iterable[tuple[bool, bool]]:
    """(should act, acts) of one rule, for every example that says something about it."""
    for example, found in zip(examples, explanations, strict=True):
        rule = next((rule for rule in found.rules if rule.rule == rule_id), None)
        if rule is None:
            continue
        acts = rule.action is not Action.ALLOW
        if isinstance(example.expect, dict):
            if rule_id in example.expect:
                yield example.expect[rule_id] is not Action.ALLOW, acts
        elif example.expect is Action.ALLOW and mode is Mode.LIVE:
            yield False, acts


def _count(rule_id: str, mode: Mode, pairs: Iterable[tuple[bool, bool]]) -> RuleAccuracy:
    found = list(pairs)
    return RuleAccuracy(
        rule=rule_id,
        mode=mode,
        true_positives=found.count((True, True)),
        false_positives=found.count((False, True)),
        false_negatives=found.count((True, False)),
        true_negatives=found.count((False, False)),
    )


def _ratio(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def _xml(text: str) -> str:
    """`text` with the characters that XML cannot hold written as their hexadecimal escapes."""
    return re.sub("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", lambda m: f"\\x{ord(m[0]):02x}", text)
