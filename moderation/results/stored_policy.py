"""The policy of a run, put together again from the texts in its manifest."""

import os
import tempfile
from dataclasses import replace
from pathlib import Path, PurePosixPath

from moderation.errors import OutputError, PolicyError, SettingsError
from moderation.policy.assets import Assets
from moderation.policy.exemplars import Exemplar, Exemplars
from moderation.policy.schema import Policy
from moderation.policy_files.loading import load_policy, parse_policy
from moderation.policy_files.places import located
from moderation.results.archive import Archive
from moderation.results.manifest import Manifest, find_manifest
from moderation.results.stored_assets import stored_assets
from moderation.storage import Store, scheme_of


def stored_policy(output: Store, manifest: Manifest) -> Policy:
    """The policy that a run used, with what it included and the heads, exemplars and lists that it named.

    Raises:
        OutputError: a head, the exemplars or a list that is stored with the run is gone or damaged.
        PolicyError: the texts are no policy of today's language, or not the one whose hash the manifest names.
    """
    try:
        policy = _parsed(output, manifest)
    except PolicyError as error:
        raise PolicyError(f"the policy stored with run {manifest.run_id} can no longer be read: {error}") from None
    if policy.hash != manifest.policy_hash:
        raise PolicyError(
            f"the policy stored with run {manifest.run_id} has the hash {policy.hash}, but the run used "
            f"{manifest.policy_hash}: was the manifest edited?"
        )
    return policy


def _parsed(output: Store, manifest: Manifest) -> Policy:
    policy = policy_without_assets(manifest)
    names = {rule.id: rule.head for rule in policy.rules if rule.head is not None}
    assets = stored_assets(output, names, manifest.assets)
    folder = Path(str(manifest.settings.get("policy", ""))).absolute().parent
    # Who can write to a bucket of results must not be able to make this machine open its own files.
    return policy.with_assets(_found_again(assets, folder, local=scheme_of(output.uri) == "file"))


def _found_again(assets: Assets, folder: Path, *, local: bool) -> Assets:
    """With the places where exemplars were, in case one must be embedded again; its hash tells whether it is the same."""

    def placed(exemplars: tuple[Exemplar, ...]) -> tuple[Exemplar, ...]:
        places = [located(one.name, folder) for one in exemplars]
        return tuple(
            replace(one, location=place if local or scheme_of(place) != "file" else "")
            for one, place in zip(exemplars, places, strict=True)
        )

    rules = {rule: Exemplars(placed(own.like), placed(own.unlike)) for rule, own in assets.exemplars.items()}
    return replace(assets, exemplars=rules, background=placed(assets.background))


def policy_without_assets(manifest: Manifest) -> Policy:
    """The policy of a run as its texts say it, whatever it names. Raises `PolicyError`."""
    nothing = Assets()  # what it names is not read from where it was
    if not manifest.policy_includes:
        return parse_policy(manifest.policy_text, folder=manifest.policy_folder, assets=nothing)
    # Included files go by the path they had when the run began, and by their place beside the policy.
    main = PurePosixPath(str(manifest.settings.get("policy", "policy.yaml")))
    with tempfile.TemporaryDirectory(prefix="clip-moderation-") as folder:
        for name, text in {str(main): manifest.policy_text, **manifest.policy_includes}.items():
            _write(Path(folder), PurePosixPath(name), main.parent, text)
        # Earlier versions took paths of weights relative to the current folder.
        return load_policy(Path(folder) / main.name, manifest.policy_folder or os.path.abspath("."), nothing)  # noqa: PTH100


def _write(folder: Path, name: PurePosixPath, beside: PurePosixPath, text: str) -> None:
    try:
        path = (folder / name.relative_to(beside)).resolve()
    except ValueError:
        raise PolicyError(f"the included file {str(name)!r} is not next to the policy") from None
    if not path.is_relative_to(folder.resolve()):
        raise PolicyError(f"the included file {str(name)!r} is outside the policy's folder")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def newest_policy_file(archive: Archive) -> Path | None:
    """The file that the newest run of an archive read its policy from; None if it is gone or contains another policy now."""
    run_id = archive.shards[0].run_id if archive.shards else None
    manifest = find_manifest(archive.output, run_id) if run_id else None
    path = Path(str(manifest.settings.get("policy", ""))) if manifest is not None else Path()
    try:
        return path if manifest is not None and load_policy(path).hash == manifest.policy_hash else None
    except PolicyError:
        return None


def newest_policy_if_readable(archive: Archive) -> Policy | None:
    """The policy of the newest run of an archive; None if there is none, or if this version cannot read it."""
    try:
        return newest_policy(archive)
    except (PolicyError, SettingsError, OutputError):
        return None


def newest_policy(archive: Archive) -> Policy:
    """The policy of the newest run of an archive.

    Raises:
        SettingsError: no run there has rows.
        PolicyError: as `stored_policy`.
    """
    run_id = archive.shards[0].run_id if archive.shards else None
    manifest = find_manifest(archive.output, run_id) if run_id else None
    if manifest is None:
        raise SettingsError(f"the runs under {archive.output.uri} processed no image")
    return stored_policy(archive.output, manifest)
