"""`moderate policy sample`: randomly drawn images for a person to label."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from moderation.errors import OutputError, SettingsError

if TYPE_CHECKING:
    from moderation.studies.sampling.sample_result import Sample


def sample(
    results: Annotated[str, typer.Option("--results", "-r", help="The output of runs: a folder or a URI.", show_default=False)],
    rule: Annotated[str, typer.Option("--rule", help="The rule to label images for.", show_default=False)],
    n: Annotated[int, typer.Option("--n", "-n", help="How many images to draw.")] = 200,
    policy: Annotated[
        Path | None,
        typer.Option("--policy", "-p", help="Score with this policy file; default: the policy of the newest run."),
    ] = None,
    since: Annotated[
        str | None, typer.Option("--since", help="Only images of runs since: 30d, 12w, 2026-11-21.", show_default=False)
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="Random seed; another number draws different images.")] = 0,
    output: Annotated[Path, typer.Option("--output", "-o", help="The folder for the CSV and the page.")] = Path("labels"),
    fingerprint: Annotated[
        str | None,
        typer.Option("--fingerprint", help="Which model's embeddings to use, if there are several.", show_default=False),
    ] = None,
) -> None:
    """Draw images to label for a rule: a third flagged, a third just below its threshold, a third from all others.

    Writes a CSV with an empty column `label`, and a page on which a person labels with the keyboard and saves that CSV. Each
    image has a weight, the number of images that it stands for, so that `moderate policy tune` can estimate the true rates
    although flagged images are drawn far more often. Scores come from stored embeddings; only thumbnails need the images.

    Example: `moderate policy sample --results results --rule firearms --n 200`
    """
    from moderation.commands.stored_results import opened
    from moderation.console.sample import show_sample
    from moderation.policy_files.loading import load_policy
    from moderation.results.stored_policy import newest_policy, newest_policy_file
    from moderation.scoring.prompt_embeddings import compiled_for
    from moderation.studies.sampling.drawing import MOST, draw, rule_to_sample
    from moderation.studies.sampling.labels_file import labels_csv

    if not 3 <= n <= MOST:
        raise SettingsError(
            f"--n {n}: give 3 to {MOST:,}: at least one flagged image, one near the threshold and one of the rest"
        )
    given = load_policy(policy) if policy is not None else None
    archive = opened(results, since, fingerprint, given.model.label if given else None)
    used = given or newest_policy(archive)
    chosen = rule_to_sample(used, rule)
    written = output / f"{chosen.id}.csv", output / f"{chosen.id}.html"
    for path in written:  # it may contain labels
        if path.exists():
            raise OutputError(f"{str(path)!r} already exists and may contain labels: give another --output, or remove it")
    drawn = draw(archive, compiled_for(used, archive), chosen, n, seed)
    csv_text = labels_csv(drawn)
    page = _page(drawn, csv_text, archive.output.uri)
    try:
        output.mkdir(parents=True, exist_ok=True)
        for path, content in zip(written, (csv_text, page), strict=True):
            with open(path, "x", encoding="utf-8", newline="") as file:
                file.write(content)
    except OSError as error:
        raise OutputError(f"cannot write {str(output)!r}: {(error.strerror or str(error)).lower()}") from None
    show_sample(drawn, *written, policy=policy or newest_policy_file(archive), results=results)


def _page(drawn: "Sample", csv_text: str, results: str) -> str:
    from moderation.html.previews import previews
    from moderation.html.thumbnails import LARGE
    from moderation.sources import ObjectReader
    from moderation.storage import scheme_of
    from moderation.studies.sampling.label_sheet import LabelledImage, LabelSheet, address, render
    from moderation.studies.sampling.labels_file import header, identity, saved_name, unlabelled

    rule = drawn.rule
    # Somebody who can write to the results' bucket must not be able to show files of this machine.
    local = scheme_of(results) == "file"
    sheet = LabelSheet(
        policy=drawn.policy,
        rule=rule,
        model=drawn.archive.model,
        header=header(),
        images=[
            LabelledImage(image.uri, image.frame, unlabelled(rule.id, image), address(image.uri, local=local))
            for image in drawn.images
        ],
        identity=identity(csv_text),
        file_name=saved_name(rule.id),
        population=drawn.population,
    )
    reader = ObjectReader(manifests=True, local_files=local)
    return render(sheet, previews(reader, [(image.uri, image.etag, image.frame) for image in drawn.images], size=LARGE))
