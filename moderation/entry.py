"""Entry point of the command. Handles signals before importing the rest, which takes a moment."""

from moderation.common import stopping
from moderation.common.streams import open_streams


def main() -> None:
    """Run the `moderate` command."""
    open_streams()
    stopping.listen()
    from moderation.cli import main as command  # noqa: PLC0415

    command()
