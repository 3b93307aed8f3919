"""Selects a model, and checks that it fits the policy before anything is scored."""

from dataclasses import replace

from moderation.errors import ModelError, PolicyError
from moderation.policy.model_choice import ModelChoice
from moderation.policy.schema import Policy
from moderation.policy.score_kind import ScoreKind
from moderation.policy_files.loading import load_policy


def model_choice(text: str) -> ModelChoice:
    """From `name` or `name/pretrained`: demo, ViT-B-32/openai, ViT-B-32/folder/weights.safetensors, hf-hub:org/repo.

    Or from a policy file (.yaml), whose `model` is meant: it can say what a checkpoint was trained with.

    Raises:
        ModelError: the text names nothing.
        PolicyError: the policy file cannot be read.
    """
    if text.endswith((".yaml", ".yml")):
        return load_policy(text).model
    name, _, pretrained = text.partition("/")
    if ":" in name:  # hf-hub:org/repo and local-dir:folder bring their weights, and slashes of their own
        name, pretrained = text, ""
    if not name.strip() or (text.endswith("/") and ":" not in name):
        raise ModelError(
            f"{text!r} is not a model: write demo, ViT-B-32/openai, ViT-B-32/weights.safetensors or hf-hub:org/repo"
        )
    return ModelChoice(name=name, pretrained=pretrained or None)


def without_heads(policy: Policy) -> tuple[Policy, tuple[str, ...]]:
    """A policy without the rules that are scored by heads, which belong to one model; and the ids of these rules.

    Raises:
        PolicyError: no other rule is scored.
    """
    heads = tuple(rule.id for rule in policy.active_rules if rule.score is ScoreKind.HEAD)
    if not heads:
        return policy, ()
    rest = tuple(rule for rule in policy.rules if rule.id not in heads)
    if all(rule.id in heads for rule in policy.active_rules):
        raise PolicyError("every rule is scored by a head, and a head belongs to one model: learn them again for the other one")
    return policy.model_copy(update={"rules": rest}).with_assets(replace(policy.assets, heads={})), heads


def check_choice(choice: ModelChoice, policy: Policy) -> None:
    """Whether there is such a model, and whether it can score the policy's rules. Loads no weights, but imports torch.

    Raises:
        ModelError: there is no such model.
        PolicyError: a rule asks for a score that the model does not have.
    """
    from moderation.model.catalog import facts_of  # noqa: PLC0415 - open_clip takes seconds to import

    facts = facts_of(choice)
    biased = [rule for rule in policy.active_rules if rule.score.facts.needs_bias]
    if biased and not facts.has_bias:
        rules = f"rule{'s' if len(biased) > 1 else ''} {', '.join(repr(rule.id) for rule in biased)}"
        kinds = ", ".join(dict.fromkeys(f"`{rule.score}`" for rule in biased))
        raise PolicyError(
            f"{rules}: {kinds} needs a SigLIP-family model; {choice.label} has no bias and cannot compute such scores: "
            "compare with a model of that family, or use `score: contrast`"
        )
