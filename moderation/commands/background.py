"""`moderate policy background`: ordinary images for rules that compare exemplars."""

from pathlib import Path
from typing import Annotated

import typer


def background(
    file: Annotated[Path, typer.Argument(help="The policy file.", show_default=False)],
    results: Annotated[str, typer.Option("--results", "-r", help="The output of runs: a folder or a URI.", show_default=False)],
    n: Annotated[int, typer.Option("--n", "-n", help="How many images to draw.")] = 256,
    write: Annotated[bool, typer.Option("--write", help="Put `background:` into FILE; comments and layout stay.")] = False,
    since: Annotated[
        str | None, typer.Option("--since", help="Only images of runs since: 30d, 12w, 2026-11-21.", show_default=False)
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="Random seed; another number draws different images.")] = 0,
    fingerprint: Annotated[
        str | None,
        typer.Option("--fingerprint", help="Which model's embeddings to use, if there are several.", show_default=False),
    ] = None,
) -> None:
    """Draw ordinary images from results, which rules with `score: examples` compare their exemplars with.

    Drawn are images that are allowed and flagged by no live or shadow rule. Those nearest to the exemplars of FILE are left
    out, since some may show what its rules look for; look at the rest before you trust it. Writes a CSV of URIs and hashes
    beside FILE. No image is read.

    Example: `moderate policy background policies/shop.yaml --results results --write`
    """
    from moderation.commands.stored_results import opened
    from moderation.console.background import show_background
    from moderation.scoring.prompt_embeddings import archive_exemplars
    from moderation.studies.background.background_file import (
        background_csv,
        name_background,
        policy_without_background,
        write_background,
    )
    from moderation.studies.background.drawing_background import draw_background, keep_embeddings

    policy = policy_without_background(file)
    archive = opened(results, since, fingerprint, policy.model.label)
    embedded = archive_exemplars(policy, archive)
    liked = {one.sha256: embedded[one.sha256] for own in policy.assets.exemplars.values() for one in own.like}
    drawn = draw_background(archive, policy, liked, n, seed)
    kept = keep_embeddings(archive, drawn)
    name = write_background(file, policy, background_csv(drawn))
    if write:
        name_background(file, policy, drawn, name)
    show_background(file, drawn, name, asked=n, written=write, kept=kept)
