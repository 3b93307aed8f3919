"""`moderate search`: search stored embeddings by text or by image."""

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from moderation.errors import OutputError, SettingsError

if TYPE_CHECKING:
    from moderation.results.archive import Archive
    from moderation.studies.search.nearest import SearchResult


def search(
    results: Annotated[str, typer.Option("--results", "-r", help="The output of runs: a folder or a URI.", show_default=False)],
    text: Annotated[
        str | None, typer.Argument(metavar="[TEXT]", help="What the images should show.", show_default=False)
    ] = None,
    image: Annotated[
        str | None, typer.Option("--image", "-i", help="Search by this image instead: a path or a URI.", show_default=False)
    ] = None,
    top: Annotated[int, typer.Option("--top", "-t", help="How many images.")] = 50,
    where: Annotated[
        str | None,
        typer.Option(
            "--where",
            help="Only images whose newest decision meets this SQL condition over the columns of `decisions`.",
            show_default=False,
        ),
    ] = None,
    since: Annotated[
        str | None,
        typer.Option("--since", help="Only images of runs that started since: 30d, 12w, 2026-11-21.", show_default=False),
    ] = None,
    fingerprint: Annotated[
        str | None,
        typer.Option("--fingerprint", help="Which model's embeddings to use, if there are several.", show_default=False),
    ] = None,
    html: Annotated[
        Path | None, typer.Option("--html", help="Also write a page with the images, blurred.", show_default=False)
    ] = None,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV instead of a table.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON array with an object per image.")] = False,
) -> None:
    """Find the stored images that are nearest to TEXT or to another image.

    Fetches no images, except for the page and for `--image`. The text is used as it is: a caption such as "a photo of a red
    car" often works better than a single word. Images that look the same count as one.

    Example: `moderate search --results results "a red car" --top 20 --html cars.html`
    """
    from moderation.commands.stored_results import opened
    from moderation.console.search import print_csv, print_json, show_found

    if (text is None) == (image is None):
        raise SettingsError(
            "give either a text or an --image" if text is not None else "give a text to search for, or an --image"
        )
    if as_csv and as_json:
        raise SettingsError("give one of --csv and --json")
    if text is not None and not text.strip():
        raise SettingsError("the text to search for is empty: say what the image should show, such as: a red car")
    archive = opened(results, since, fingerprint)
    found = _search(archive, text, image, top, where)
    if html is not None:
        _write(html, _page(archive, found, text, image, where))
    if as_csv:
        print_csv(found)
    elif as_json:
        print_json(found)
    else:
        show_found(found)


def _search(archive: "Archive", text: str | None, image: str | None, top: int, where: str | None) -> "SearchResult":
    from moderation.policy.known_images import KnownImages
    from moderation.query.condition import Condition
    from moderation.results.stored_policy import newest_policy
    from moderation.studies.search.nearest import MOST, Chosen, nearest
    from moderation.studies.search.queries import image_query, text_query

    if not 1 <= top <= MOST:
        raise SettingsError(f"--top {top}: give 1 to {MOST:,}")
    with contextlib.ExitStack() as stack:
        chosen = None
        if where is not None:
            condition = stack.enter_context(Condition(where))
            chosen = Chosen(condition.columns, condition.holds)
        policy = newest_policy(archive)
        model = policy.model
        queries = text_query(archive, model, text) if text is not None else image_query(archive, model, str(image))
        return nearest(archive, queries, top, chosen, known=KnownImages(policy))


def _page(archive: "Archive", found: "SearchResult", text: str | None, image: str | None, where: str | None) -> str:
    from moderation.html.previews import previews
    from moderation.sources import ObjectReader
    from moderation.storage import scheme_of
    from moderation.studies.search.search_page import Hit, SearchPage, render

    page = SearchPage(
        query=text if text is not None else str(image),
        by_image=image is not None,
        results=archive.output.uri,
        model=archive.used.model,
        fingerprint=archive.fingerprint,
        images=found.images,
        hits=[Hit(one.uri, one.frame, one.score, one.action, one.flags, one.alike) for one in found.found],
        where=where,
    )
    # Somebody who can write to the results' bucket must not be able to show files of this machine.
    reader = ObjectReader(manifests=True, local_files=scheme_of(archive.output.uri) == "file")
    pictures = previews(reader, [(one.uri, one.etag, one.frame) for one in found.found])
    return render(page, pictures, _preview(image, archive) if image is not None else None)


def _preview(image: str, archive: "Archive") -> str | None:
    """The query image as a thumbnail; None if it is on a restricted hash list of the newest policy."""
    from moderation.authoring.list_entries import image_hashes
    from moderation.errors import StorageError
    from moderation.html.previews import previews
    from moderation.policy.known_images import KnownImages
    from moderation.results.stored_policy import newest_policy
    from moderation.sources import ObjectReader
    from moderation.storage import Store, file_uri

    known = KnownImages(newest_policy(archive))
    if known and known.restricted(image_hashes(image))[0]:
        return None
    uri = image if "://" in image else file_uri(str(Path(image).expanduser().resolve()))
    try:
        store, key = Store.locate(uri)
        found = store.head(key)
    except StorageError:  # it was removed since the search
        return None
    reader = ObjectReader(manifests=True, local_files=True)
    return previews(reader, [(found.uri, found.etag, 0)]).get((found.uri, 0))


def _write(path: Path, content: str) -> None:
    from moderation.console.search import show_written

    try:
        path.write_text(content, encoding="utf-8")
    except OSError as error:
        raise OutputError(f"cannot write {str(path)!r}: {(error.strerror or str(error)).lower()}") from None
    show_written(path)
