"""Whether this container does its work: asked by Docker and Kubernetes, answered by the exit code.

What is asked depends on what runs here: a Prefect worker, a Prefect server, a node of a Ray cluster. Anything else, such as a
single run, is well as long as it goes on.
"""

import subprocess
import sys
import urllib.request
from pathlib import Path

WORKER = "http://127.0.0.1:8080/health"
SERVER = "http://127.0.0.1:4200/api/health"
PATIENCE_S = 15


def running() -> list[list[str]]:
    """The words of the commands that run in this container."""
    commands = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            commands.append(path.read_bytes().decode(errors="replace").split("\0"))
        except OSError:
            continue  # it has just ended
    return commands


def is_one(command: list[str], program: str, *arguments: str) -> bool:
    """Whether a command is this program, or a script of it, with these arguments next to each other."""
    if not any(word.rpartition("/")[2] == program for word in command[:2]):
        return False
    return any(tuple(command[i : i + len(arguments)]) == arguments for i in range(len(command)))


def answers(url: str) -> bool:
    """Whether a server of this container says that it is well."""
    try:
        with urllib.request.urlopen(url, timeout=PATIENCE_S) as answer:  # noqa: S310  a constant of this file
            return bool(answer.status == 200)
    except OSError as error:
        sys.stderr.write(f"{url}: {error}\n")
        return False


def ray_answers() -> bool:
    """Whether the Ray cluster that this node belongs to answers, the head of it or RAY_ADDRESS."""
    try:
        return subprocess.run(["ray", "health-check"], timeout=PATIENCE_S, check=False).returncode == 0  # noqa: S607
    except subprocess.TimeoutExpired:
        sys.stderr.write("ray health-check: no answer\n")
        return False


def healthy(commands: list[list[str]]) -> bool:
    """Whether everything that runs here is well."""
    if any(is_one(command, "prefect", "worker", "start") for command in commands):
        return answers(WORKER)
    if any(is_one(command, "prefect", "server", "start") for command in commands):
        return answers(SERVER)
    if any(is_one(command, "raylet") for command in commands):
        return ray_answers()
    return not any(is_one(command, "ray", "start") for command in commands)


if __name__ == "__main__":
    sys.exit(0 if healthy(running()) else 1)
