"""What open_clip knows of a model without its weights: does it exist, how many tokens does it read, has it a bias?"""

import contextlib
import difflib
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import open_clip

from moderation.demo import MODEL_DIR
from moderation.errors import ModelError
from moderation.model.checkpoint_files import Shapes, checkpoint_shapes
from moderation.model.training_settings import TrainingSettings, settings_of_checkpoint
from moderation.policy.model_choice import LOCAL_DIR, ModelChoice

SIGLIP_PACKAGES = ("transformers", "sentencepiece")


@dataclass(frozen=True)
class ModelFacts:
    """A model's properties that a policy must fit."""

    identifier: str
    """what open_clip calls it"""
    token_limit: int
    has_bias: bool
    """whether it was trained with a sigmoid loss, so that sigmoid scores mean something"""
    tokenizer: Any
    """open_clip's"""
    settings: TrainingSettings | None = None
    """of a checkpoint that is given by its path; None for all others"""
    shapes: Shapes | None = None
    """of its tensors"""

    def count_tokens(self, text: str) -> int:
        """Tokens of a text, start and end marks included."""
        return count_tokens(self.tokenizer, text)


def identifier_of(choice: ModelChoice) -> str:
    """What open_clip calls a model. Raises `ModelError` on a name or tag that it does not know."""
    if choice.brings_its_own and choice.pretrained:
        raise ModelError(f"the model {choice.name!r} has its own weights", "leave `pretrained` out", key="pretrained")
    if choice.name == "demo":
        return f"{LOCAL_DIR}{MODEL_DIR}"
    if choice.local_dir is not None:
        return f"{LOCAL_DIR}{choice.local_dir}"
    if choice.brings_its_own:
        return choice.name
    _check_name(choice)
    return choice.name.replace("/", "-")


def facts_of(choice: ModelChoice) -> ModelFacts:
    """Facts of a model. Raises `ModelError` if there is no such model, or its tokenizer is not available."""
    name, identifier = choice.name, identifier_of(choice)
    path = choice.checkpoint
    settings = settings_of_checkpoint(choice) if path else None
    shapes = checkpoint_shapes(path, str(choice.pretrained)) if path else None
    try:
        with quiet():
            config = open_clip.get_model_config(identifier) or {}
            tokenizer = open_clip.get_tokenizer(identifier)
    except ImportError as error:
        if error.name not in SIGLIP_PACKAGES:
            raise
        raise missing_extra(name) from None
    except Exception as error:  # noqa: BLE001 - open_clip and the hub client share no base class
        reason = " ".join(str(error).split())[:300]
        what = "load" if identifier.startswith(LOCAL_DIR) else "read the configuration of"
        raise ModelError(f"cannot {what} the model {name!r}: {reason}", key="name") from None
    limit = int(getattr(tokenizer, "context_length", None) or 77)
    return ModelFacts(identifier, limit, config.get("init_logit_bias") is not None, tokenizer, settings, shapes)


def missing_extra(name: str) -> ModelError:
    """What to do when a model's tokenizer needs packages that are not installed."""
    return ModelError(
        f"the model {name!r} needs the tokenizers of the SigLIP family: pip install 'clip-moderation[siglip]'", key="name"
    )


def count_tokens(tokenizer: Any, text: str) -> int:
    """Tokens that an open_clip tokenizer makes of a text before it cuts it off, start and end marks included."""
    if isinstance(tokenizer, open_clip.SimpleTokenizer):
        return len(tokenizer.encode(text)) + 2
    return len(tokenizer.tokenizer(text)["input_ids"])


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep what open_clip and the hub client log to themselves; what went wrong is raised."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(before)


def _check_name(choice: ModelChoice) -> None:
    name, pretrained = choice.name, choice.pretrained
    known = open_clip.list_models()
    if name.replace("/", "-") not in known:
        close = difflib.get_close_matches(name, ["demo", *known], n=3, cutoff=0.5)
        hint = f"did you mean {' or '.join(close)}?" if close else "see open_clip.list_models()"
        raise ModelError(f"unknown model {name!r}", hint, key="name")
    tags = open_clip.list_pretrained_tags_by_model(name.replace("/", "-"))
    if pretrained is None:
        listed = f"one of {', '.join(tags)}, or the path of a checkpoint" if tags else "the path of a checkpoint"
        raise ModelError(f"the model {name!r} needs `pretrained`", listed, key="name")
    if choice.checkpoint is None and pretrained not in tags:
        close = difflib.get_close_matches(pretrained, tags, n=1)
        hint = f"did you mean {close[0]}?" if close else f"known: {', '.join(tags)}" if tags else "it has none"
        raise ModelError(
            f"no pretrained tag {pretrained!r} for {name}", f"{hint} (a path has a / in it: ./{pretrained})", key="pretrained"
        )
