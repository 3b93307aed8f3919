"""A list fetched from an exchange: written whole, or not at all."""

import json
import os
from pathlib import Path

from moderation.authoring.threat_updates import TOKEN, URL, threat_updates
from moderation.errors import SettingsError
from moderation.lists.hash_list import HashKind
from moderation.lists.reading import ReadList, read_list


def fetch_list(path: Path, kind: HashKind, group: str, url: str = URL) -> ReadList:
    """Fetch a privacy group's hashes into a file, an entry a line. What was there stays unless all is fetched and right.

    Raises:
        SettingsError: the token or the group is missing, the exchange refuses, or the file cannot be written.
    """
    token = os.environ.get(TOKEN, "")
    if not token:
        raise SettingsError(f"the access token is missing: set the environment variable {TOKEN}")
    if not (group.isascii() and group.isdecimal()):
        raise SettingsError(f"--group {group!r}: give the number of the privacy group")
    path = path.resolve()
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with partial.open("x", encoding="utf-8", newline="\n") as file:
            for entry in threat_updates(group, kind, token, url):
                file.write(json.dumps(entry) + "\n")
        with partial.open("rb") as stream:
            found = read_list(stream, str(path), kind, 0)
        if found.content is not None:
            partial.replace(path)
        return found
    except OSError as error:
        raise SettingsError(f"cannot write {str(path)!r}: {(error.strerror or str(error)).lower()}") from None
    finally:
        partial.unlink(missing_ok=True)
