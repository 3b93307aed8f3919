"""What `moderate studio` prints."""

import typer


def show_link(link: str) -> None:
    """How to get in."""
    typer.echo(f"the studio is open: {link}")
    typer.echo("the link is for you alone: it has a token; Ctrl-C ends the studio", err=True)
