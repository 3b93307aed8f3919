"""What a command line may say."""

import shlex

import typer

from moderation.cli import app


def unknown_words(line: str) -> set[str]:
    """Of a command line that begins with `moderate`: names of commands and options that the program does not have."""
    words = shlex.split(line)[1:]
    command = typer.main.get_command(app)
    while hasattr(command, "commands"):
        name = words.pop(0)
        if name not in command.commands:
            return {name}
        command = command.commands[name]
    known = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
    return {word for word in words if word.startswith("-")} - known
