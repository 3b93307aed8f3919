"""A finished run, replayed: its manifest, its files, and everything that follows from its embeddings."""

import contextlib
import time
from collections.abc import Iterator, Mapping
from dataclasses import fields, replace

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from moderation.common.prefetch import ahead
from moderation.errors import ModerationError, OutputError, PolicyError, SettingsError, StorageError
from moderation.policy.compiled import CompiledPolicy, TextHead, prompt_texts
from moderation.policy.schema import Policy
from moderation.records import Counts
from moderation.results.archive import open_archive
from moderation.results.manifest import Manifest
from moderation.results.runs import find_run, unpublished
from moderation.results.stored_exemplars import read_exemplars
from moderation.results.stored_policy import stored_policy
from moderation.results.stored_prompts import prompts_key, read_prompts
from moderation.scoring.judging import RowContext
from moderation.scoring.prompt_embeddings import embedded_texts
from moderation.storage import Store
from moderation.studies.replay.replay_result import Prompts, Replay
from moderation.studies.replay.row_comparison import Differences
from moderation.studies.replay.shard_reading import RunFiles, load_shards, shards_of, unnamed_files
from moderation.studies.replay.shard_replay import UNIT, replay_shard


def replay_run(output: Store, run_id: str) -> Replay:
    """Recompute the decisions and scores of a published or quarantined run and compare them with the stored ones.

    One shard is in memory at a time, and the next one being read.

    Raises:
        SettingsError: there is no such run, or it is not finished.
        OutputError: the output cannot be read, or the manifest is invalid. Problems with a run's files are in the `Replay`.
    """
    for folder in ("", f"_quarantine/{run_id}/"):
        key = f"{folder}runs/{run_id}.json"
        with _reading(output):
            data = output.get(key) if output.exists(key) else None
        if data is not None:
            return _replay(RunFiles(output, _parsed(output, key, data), folder), run_id)
    run = find_run(output, run_id)
    raise SettingsError(f"the run {run_id} is {run.state}, so it cannot be replayed: resume it with --run-id {run_id}")


def replay_all(output: Store) -> Iterator[Replay]:
    """Every published run, by run id. A manifest that cannot be read is a problem of its run.

    Raises:
        SettingsError: there is no run.
        OutputError: the output cannot be read.
    """
    with _reading(output):
        uris = (item.uri for page in output.list("runs/") for item in page if item.uri.endswith(".json"))
        keys = sorted(output.key_of(uri) for uri in uris)
    if not keys:
        message = unpublished(output) or "see `moderate runs list`"
        raise SettingsError(f"no run is published under {output.uri}: {message}")
    for key in keys:
        run_id = key.removeprefix("runs/").removesuffix(".json")
        with _reading(output):
            data = output.get(key)
        try:
            manifest = _parsed(output, key, data)
        except OutputError as error:
            yield Replay(run_id, "published", "", "", "none", problems=(str(error),))
            continue
        yield _replay(RunFiles(output, manifest), run_id)


def _parsed(output: Store, key: str, data: bytes) -> Manifest:
    try:
        return Manifest.from_json(data)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"]) or "the file"
        raise OutputError(f"{output.uri_of(key)} is not a manifest of this program: {place}: {first['msg']}") from None


def _replay(files: RunFiles, run_id: str) -> Replay:
    began = time.monotonic()
    manifest = files.manifest
    shards, problems = shards_of(files)
    problems += _identity(manifest, run_id, quarantined=bool(files.folder))
    problems += unnamed_files(files)
    compiled, prompts = _compiled(files, problems)
    found = Replay(
        run_id=run_id,
        state="quarantined" if files.folder else "published",
        policy=f"{manifest.policy} {manifest.policy_version} ({manifest.policy_hash})",
        model=f"{manifest.model} ({manifest.model_fingerprint})",
        prompts=prompts,
        shards=len(shards),
    )
    differences, counts, replayed = Differences(), Counts(), 0
    context = None
    if compiled is not None:
        context = RowContext(manifest.run_id, compiled, manifest.model, manifest.model_fingerprint)
    with contextlib.closing(ahead(load_shards(files, shards), 1)) as loaded:
        for shard in loaded:
            sums = None
            if context is not None and shard.is_whole:
                sums = replay_shard(shard, context, differences)
            if sums is not None:
                counts, replayed = counts + sums, replayed + 1
            problems += shard.problems
    if replayed == len(shards):
        problems += _sums(manifest, counts)
    elif compiled is not None:
        left = len(shards) - replayed
        problems.append(f"{left:,} of {len(shards):,} shards could not be replayed, so the manifest's sums were not compared")
    return replace(
        found,
        scored=counts.scored,
        errors=counts.errors,
        shards_replayed=replayed,
        problems=tuple(problems),
        differences=differences.count,
        differing_images=differences.images,
        by_column=dict(differences.by_column),
        shown=tuple(differences.shown),
        largest=differences.largest,
        seconds=time.monotonic() - began,
    )


def _identity(manifest: Manifest, run_id: str, *, quarantined: bool) -> list[str]:
    problems = []
    if manifest.run_id != run_id:
        problems.append(f"the manifest of {run_id} says that it belongs to {manifest.run_id!r}")
    expected = "quarantined" if quarantined else "published"
    if manifest.state != expected:
        problems.append(f"the manifest says {manifest.state!r}, but is stored where {expected} runs are")
    processed = manifest.scored + manifest.errored
    if manifest.listed != manifest.unchanged + processed:
        problems.append(
            f"the manifest lists {manifest.listed:,} objects, but {manifest.unchanged:,} unchanged, {manifest.scored:,} scored "
            f"and {manifest.errored:,} errored do not add up to that"
        )
    return problems


def _compiled(files: RunFiles, problems: list[str]) -> tuple[CompiledPolicy | None, Prompts]:
    """The policy with its prompt embeddings; None, and why, if one of them is not available."""
    manifest = files.manifest
    try:
        policy = stored_policy(files.output, manifest)
    except (PolicyError, OutputError) as error:
        problems.append(_first_line(error))
        return None, "none"
    for what, said, found in (
        ("name", manifest.policy, policy.policy),
        ("version", manifest.policy_version, policy.version),
    ):
        if said != found:
            problems.append(f"the manifest says that the policy's {what} is {said!r}, but its text has {found!r}")
    try:
        if manifest.prompts is None:
            return _computed(files, policy), "computed"
        head = _stored_prompts(files, policy, problems)
        if head is None:
            return None, "none"
        return CompiledPolicy.build(policy, replace(head, images=_stored_exemplars(files))), "stored"
    except ModerationError as error:
        problems.append(_first_line(error))
        return None, "none"


def _computed(files: RunFiles, policy: Policy) -> CompiledPolicy:
    """Of a run from before prompt embeddings were kept: from other runs or by the model, if it is here."""
    manifest = files.manifest
    if files.folder:
        raise SettingsError("the run stored no prompt embeddings, and only those of published runs can be computed again")
    archive = open_archive(files.output, fingerprint=manifest.model_fingerprint, run_ids=[manifest.run_id])
    texts = prompt_texts(policy)
    try:
        head = embedded_texts(archive, policy.model, texts, keep=False)
        return CompiledPolicy.build(policy, replace(head, images=_stored_exemplars(files)))
    except ModerationError as error:
        raise SettingsError(f"the run stored no prompt embeddings, and they cannot be computed: {_first_line(error)}") from None


def _stored_exemplars(files: RunFiles) -> Mapping[str, NDArray[np.float16]]:
    manifest = files.manifest
    return read_exemplars(files.output, manifest.exemplars) if manifest.exemplars is not None else {}


def _stored_prompts(files: RunFiles, policy: Policy, problems: list[str]) -> TextHead | None:
    manifest, texts = files.manifest, prompt_texts(policy)
    expected = prompts_key(manifest.model_fingerprint, texts)
    if manifest.prompts != expected:
        problems.append(
            f"the manifest names the prompt embeddings {manifest.prompts!r}; those of its policy and model are {expected}"
        )
    head = read_prompts(files.output, expected)
    missing = [text for text in texts if text not in head.texts]
    if missing:
        problems.append(f"{files.output.uri_of(expected)} lacks {len(missing):,} prompts of the policy, such as {missing[0]!r}")
        return None
    sizes = {vector.shape for vector in head.texts.values()}
    if len(sizes) > 1:
        problems.append(f"{files.output.uri_of(expected)} holds embeddings of different lengths")
        return None
    odd = [text for text in texts if not abs(float(np.linalg.norm(head.texts[text])) - 1.0) <= UNIT]
    if odd:
        problems.append(f"the embeddings of {len(odd):,} prompts are not unit vectors, such as that of {odd[0]!r}")
    return head


def _sums(manifest: Manifest, found: Counts) -> Iterator[str]:
    for part in fields(Counts):
        said, recomputed = getattr(manifest.counts, part.name), getattr(found, part.name)
        if isinstance(said, Mapping):
            for key in sorted(said.keys() | recomputed.keys()):
                if said.get(key, 0) != recomputed.get(key, 0):
                    yield _sum(f"{part.name}, {key}", said.get(key, 0), recomputed.get(key, 0))
        elif said != recomputed:
            yield _sum(part.name, said, recomputed)


def _sum(name: str, said: int, recomputed: int) -> str:
    return f"the manifest counts {said:,} ({name}); replayed there are {recomputed:,}"


def _first_line(error: ModerationError) -> str:
    return str(error).partition("\n")[0]


@contextlib.contextmanager
def _reading(output: Store) -> Iterator[None]:
    try:
        yield
    except StorageError as error:
        raise OutputError(f"cannot read the results at {output.uri}: {error.detail}") from None
