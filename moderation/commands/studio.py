"""`moderate studio`: a local web page over results and policies."""

from pathlib import Path
from typing import Annotated

import typer


def studio(
    results: Annotated[str, typer.Option("--results", "-r", help="The output of runs: a folder or a URI.", show_default=False)],
    policy: Annotated[
        list[Path] | None,
        typer.Option(
            "--policy",
            "-p",
            help="A policy file that may be edited; give it several times for several files.",
            show_default=False,
        ),
    ] = None,
    port: Annotated[
        int | None,
        typer.Option(
            "--port", min=1, max=65535, help="The port; by default 8765, or another one if that is in use.", show_default=False
        ),
    ] = None,
    no_browser: Annotated[bool, typer.Option("--no-browser", help="Only print the link.")] = False,
) -> None:
    """Open a page on this machine to look at runs and images, release quarantined runs, and try policies out.

    The link has a token; whoever has it can do what you can. Nothing on the page publishes or acts, except for the release of
    quarantined runs. Ctrl-C ends it.

    Example: `moderate studio --results results/ --policy policies/shop.yaml`
    """
    from moderation.common import stopping
    from moderation.console.studio import show_link
    from moderation.studio.server import serve

    stopping.listen()
    stopping.on_stop("the studio has ended")
    try:
        serve(results, policy or (), port, browser=not no_browser, ready=show_link)
    except KeyboardInterrupt as error:
        stopping.end(stopping.stopped_by(error) or 2, "the studio has ended")
