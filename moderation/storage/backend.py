"""The interface of a storage implementation. Keys are exact, hostile text: nothing in them is interpreted."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import NamedTuple, Protocol


class StoredObject(NamedTuple):
    """One listed object. `key` is relative to the root of the backend."""

    key: str
    etag: str
    size: int
    last_modified: datetime


class Skipped(NamedTuple):
    """What is in a local folder but is not an object."""

    linked_folders: int = 0
    """symbolic links to folders, which are not followed"""
    special_files: int = 0
    """pipes, sockets and devices, and links to them"""

    def __add__(self, other: object) -> "Skipped":
        if not isinstance(other, Skipped):
            return NotImplemented
        return Skipped(self.linked_folders + other.linked_folders, self.special_files + other.special_files)

    def __str__(self) -> str:
        counted = ((self.linked_folders, "linked folder"), (self.special_files, "pipe, socket or device"))
        return " and ".join(f"{number:,} {what if number == 1 else _PLURAL[what]}" for number, what in counted if number)


_PLURAL = {"linked folder": "linked folders", "pipe, socket or device": "pipes, sockets and devices"}


@dataclass(slots=True)
class Census:
    """How many objects a store, or a file that lists them, says there are: counted apart from the objects themselves."""

    objects: int = 0


class Backend(Protocol):
    """Objects under one root. All methods raise `StorageError` with a code."""

    root: str
    """the URI of the root, without a slash at its end"""

    def list(self, prefix: str, after: str = "") -> Iterator[list[StoredObject]]:
        """Pages of the objects whose key starts with `prefix` and sorts behind `after`, in key order. No page is empty."""
        ...

    def get(self, key: str, if_match: str | None = None) -> bytes:
        """The whole object. A version other than `if_match` is an error with code `changed`."""
        ...

    def get_range(self, key: str, start: int, length: int, if_match: str | None = None) -> bytes:
        """`length` bytes from `start` on, or those there are; both lie within the object, and `length` is not 0."""
        ...

    def head(self, key: str) -> StoredObject:
        """One object as a listing would show it."""
        ...

    def put(self, key: str, data: bytes | Path, create_only: bool = False) -> None:
        """Write an object completely or not at all. With `create_only`, raises `FileExistsError` if it exists."""
        ...

    def copy(self, source: str, target: str) -> None:
        """Copy within this root, on the storage's side, overwriting."""
        ...

    def delete(self, key: str) -> None:
        """Remove an object; not an error if it does not exist."""
        ...
