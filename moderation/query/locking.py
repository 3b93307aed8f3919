"""Keeping SQL from everything but what it was given."""

import secrets
import tempfile
from pathlib import Path

import duckdb


def lock(connection: duckdb.DuckDBPyConnection, name: str, **settings: object) -> None:
    """Keep SQL from files, the network, extensions, and these settings, which nothing changes any more.

    Args:
        connection: a new one.
        name: what it spills lies in a folder of that name, made when memory runs out.
        settings: further ones of DuckDB.

    Raises:
        duckdb.Error: there is no such setting.
    """
    every = {
        "TimeZone": "UTC",
        "temp_directory": str(Path(tempfile.gettempdir()) / f"clip-moderation-{name}-{secrets.token_hex(4)}"),
        "enable_progress_bar": False,  # it would be printed among what commands print
        **settings,
        "autoinstall_known_extensions": False,
        "autoload_known_extensions": False,
        "enable_external_access": False,
        "lock_configuration": True,
    }
    for setting, value in every.items():
        connection.execute(f"SET {setting} = $value", {"value": value})
