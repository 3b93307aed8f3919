"""Where the command starts: signals are handled before the rest is imported, which takes a moment."""

from moderation import stopping


def main() -> None:
    """Run the `moderate` command."""
    stopping.listen()
    from moderation.cli import main as command  # noqa: PLC0415

    command()
