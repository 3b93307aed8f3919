"""Statements of reasons: one record per block, with the field names and values of the DSA Transparency Database. Pure.

None of them holds a URI, a reviewer's name or a reviewer's note: the database must not receive personal data.
"""

from datetime import date, datetime
from typing import Any

from moderation.policy.dsa_keys import MOST_FACTS, Dsa

FIELDS = (
    "decision_visibility",
    "decision_visibility_other",
    "decision_ground",
    "decision_ground_reference_url",
    "illegal_content_legal_ground",
    "illegal_content_explanation",
    "incompatible_content_ground",
    "incompatible_content_explanation",
    "incompatible_content_illegal",
    "category",
    "category_addition",
    "category_specification",
    "category_specification_other",
    "content_type",
    "content_type_other",
    "territorial_scope",
    "content_date",
    "application_date",
    "decision_facts",
    "source_type",
    "automated_detection",
    "automated_decision",
    "puid",
)
"""In this order, as columns of a CSV file."""

_FIRST_CONTENT, _FIRST_APPLICATION = date(2000, 1, 1), date(2020, 1, 1)
"""Days before these are refused by the database."""

Statement = dict[str, Any]


def statement(block: dict[str, Any], dsa: Dsa) -> Statement:
    """The statement of one block: text, lists of text, and no value that is empty.

    Args:
        block: a row of `Blocks`.
        dsa: what the policy says about it.
    """
    said = dsa.model_dump(mode="json", exclude={"decision_facts", "territorial_scope"}, exclude_none=True)
    found: Statement = {
        **said,
        "territorial_scope": list(dsa.countries),
        "content_date": max(block["last_modified"].date(), _FIRST_CONTENT).isoformat(),
        "application_date": max(block["began"].date(), _FIRST_APPLICATION).isoformat(),
        "decision_facts": facts(block, dsa.decision_facts),
        "automated_detection": automated_detection(block["machine_action"]),
        "automated_decision": automated_decision(block["decided_by"], block["machine_action"]),
        "puid": f"cm-{block['puid']}",
    }
    return {name: found[name] for name in FIELDS if found.get(name) not in (None, [], "")}


def automated_detection(machine_action: str) -> str:
    """Whether the machine found the image: it did if it asked for a review or a block."""
    return "No" if machine_action == "allow" else "Yes"


def automated_decision(decided_by: str, machine_action: str) -> str:
    """Fully automated if no person decided; partially if one decided what the machine had flagged."""
    if decided_by == "machine":
        return "AUTOMATED_DECISION_FULLY"
    return "AUTOMATED_DECISION_NOT_AUTOMATED" if machine_action == "allow" else "AUTOMATED_DECISION_PARTIALLY"


def facts(block: dict[str, Any], first: str | None) -> str:
    """`decision_facts`: what the policy says, and what the decision rests on."""
    parts = [first] if first else []
    machine = f"An automated system examined the image under the policy {block['policy']}, version {block['policy_version']}"
    if block["machine_action"] == "allow":
        parts.append(f"{machine}, and did not flag it.")
    elif block["flagged"]:
        score = f"its score was {block['top_score']:.2f}, and the threshold {block['top_threshold']:.2f}"
        wanted = "block it" if block["machine_action"] == "block" else "have a person review it"
        parts.append(f"{machine}. The rule {block['top_rule']} ({block['top_category']}) asked to {wanted}: {score}.")
    else:
        parts.append(f"{machine}, and could not read it ({block['error_code']}).")
    if block["decided_by"] == "person":
        reason = f", with the reason: {block['reason']}" if block["reason"] else ""
        parts.append(f"A person reviewed the image on {_day(block['decided_at'])} and decided to block it{reason}.")
    return " ".join(parts)[:MOST_FACTS]


def _day(moment: datetime) -> str:
    return moment.date().isoformat()
