"""Prompt embeddings for embeddings that are stored: from beside the results where they are kept, by the model where not."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, cast

from moderation.errors import ModelError, SettingsError, StorageError
from moderation.model.preprocessing import Resize
from moderation.policy.compiled import CompiledPolicy, TextHead, prompt_texts
from moderation.policy.head_models import check_heads
from moderation.policy.model_choice import ModelChoice
from moderation.policy.schema import Policy
from moderation.results.archive import Archive
from moderation.results.stored_exemplars import keep_exemplars
from moderation.results.stored_prompts import keep_prompts, known_prompts
from moderation.scoring.exemplar_embeddings import Embedded, Embeddings, embed_images, embedded_exemplars

if TYPE_CHECKING:
    from moderation.model.open_clip_encoder import OpenClipEncoder

_log = logging.getLogger(__name__)


def compiled_for(policy: Policy, archive: Archive) -> CompiledPolicy:
    """A policy ready to score an archive's embeddings. torch is imported only if a prompt is new.

    Raises:
        PolicyError: the policy asks for a score that the model does not have, or a head belongs to another model.
        ModelError, SettingsError: as `embedded_texts`.
    """
    check_heads(policy, lambda fingerprint: _is_of(fingerprint, archive, policy.model))
    head = embedded_texts(archive, policy.model, prompt_texts(policy))
    return CompiledPolicy.build(policy, replace(head, images=archive_exemplars(policy, archive)))


def archive_exemplars(policy: Policy, archive: Archive) -> Embeddings:
    """Embeddings of a policy's exemplars by the model that made an archive. New ones are kept with its results.

    Raises:
        PolicyError: an exemplar is gone, was changed, or cannot be decoded.
        ModelError, SettingsError, OutputError: as `embedded_texts`.
    """

    def embed(images: Mapping[str, bytes]) -> Embedded:
        return embed_images(archive_encoder(archive, policy.model), images)

    found = embedded_exemplars(archive.output, archive.fingerprint, policy, embed)
    try:
        return keep_exemplars(archive.output, archive.fingerprint, found) if found else {}
    except StorageError as error:  # they may only be read by whoever asks
        _log.warning("the embeddings of %d exemplars could not be stored for later runs: %s", len(found), error.detail)
        return found


def _is_of(fingerprint: str, archive: Archive, model: ModelChoice) -> bool:
    """Whether a head's fingerprint is of the model that made an archive: in another precision only its weights can tell."""
    if fingerprint == archive.fingerprint:
        return True
    try:
        return archive_encoder(archive, model).made(fingerprint)
    except ModelError as error:
        raise ModelError(
            f"a head was learned from embeddings with the fingerprint {fingerprint}, these have {archive.fingerprint}; "
            f"whether both are of one model needs its weights: {error}"
        ) from None


def embedded_texts(archive: Archive, model: ModelChoice, texts: Sequence[str], *, keep: bool = True) -> TextHead:
    """Embeddings of texts by the model that made an archive. With `keep`, new ones are kept with its results.

    Raises:
        ModelError: a text is new and the model cannot be loaded, or the text is too long for it.
        SettingsError: the model here is not the one that made the archive.
        OutputError: stored prompt embeddings cannot be read.
    """
    output, fingerprint = archive.output, archive.fingerprint
    known = known_prompts(output, fingerprint, texts)
    missing = [text for text in texts if known is None or text not in known.texts]
    if known is not None and not missing:
        return known
    try:
        encoder = archive_encoder(archive, model)
    except ModelError as error:
        raise ModelError(f"{len(missing)} prompts are new, such as {missing[0]!r}, and need their model: {error}") from None
    vectors = dict(zip(missing, encoder.encode_texts(missing), strict=True))
    found = {**(known.texts if known else {}), **vectors}
    head = TextHead({text: found[text] for text in texts}, encoder.logit_scale, encoder.logit_bias)
    if not keep:
        return head
    try:
        return keep_prompts(output, fingerprint, head)
    except StorageError as error:  # they may only be read by whoever asks
        _log.warning("the embeddings of %d prompts could not be stored for later runs: %s", len(missing), error.detail)
        return head


def archive_encoder(archive: Archive, model: ModelChoice) -> "OpenClipEncoder":
    """The model that made an archive, on the CPU and in fp32: texts are that in every precision. Imports torch.

    Raises:
        ModelError: it cannot be loaded.
        SettingsError: what has that name here is another one.
    """
    from moderation.model.open_clip_encoder import OpenClipEncoder  # noqa: PLC0415 - torch is loaded only where it is needed

    resize = cast("Resize", archive.used.resize)
    encoder = OpenClipEncoder.of(model, device="cpu", precision="fp32", resize=resize)
    if not encoder.made_alike(archive.fingerprint):
        raise SettingsError(
            f"the embeddings under {archive.output.uri} were made by {archive.used.model} with the fingerprint "
            f"{archive.fingerprint}, but that model has {encoder.fingerprint} here: other weights, architecture or "
            "preprocessing; embeddings and prompts of different models cannot be compared: use the same weights, or score the "
            "images again"
        )
    return encoder
