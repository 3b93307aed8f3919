"""Importing and exporting reviews in tests: results that are published once, files, and commands."""

import sys
from pathlib import Path
from typing import Any

import pytest

from moderation import cli
from moderation.exchange.formats import Format
from moderation.exchange.importing import Imported, import_reviews

KNIFE, PARTY, BOTH = "s3://shop/listings/knife.jpg", "s3://shop/listings/party.jpg", "s3://shop/users/both.jpg"
HEAD = "uri,rule,verdict,action,reason,note,reviewer\n"


def imported(results: str, text: str | bytes, file_format: Format = Format.CSV, **options: Any) -> Imported:
    """What an import of this file does."""
    path = Path(results).parent / "reviewed"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return import_reviews(results, path, file_format, **options)


def reported(found: Imported) -> list[tuple[str, tuple[int, ...], str]]:
    """Its remarks."""
    return [(remark.message, remark.lines, remark.outcome) for remark in found.remarks]


def run(*arguments: str) -> int:
    """The exit code of `moderate reviews`."""
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "argv", ["moderate", "reviews", *arguments])
            cli.main()
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


def exported(results: str, file_format: str, *options: str) -> Path:
    """The file that `moderate reviews export` writes."""
    path = Path(results).parent / f"exported.{file_format}"
    assert run("export", "--results", results, "--output", str(path), "--format", file_format, *options) == 0
    return path
