"""The temporary server's application: Prefect's API behind a password, on a database of its own."""

import asyncio
import base64
import hmac
import os
import socket
import sqlite3
import sys
from pathlib import Path
from typing import Any

import sqlalchemy as sa
import uvicorn
from prefect.server.api.server import create_app
from prefect.server.database import provide_database_interface
from prefect.settings import get_current_settings
from sqlalchemy.schema import CreateIndex, CreateTable

from flows.temporary_server import DATABASE

READY = b"ready\n"


class Guarded:
    """An application that answers nothing at all, sockets included, without the password."""

    def __init__(self, app: Any, password: str) -> None:
        self._app = app
        self._expected = b"Basic " + base64.b64encode(password.encode())

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Pass on what carries the password; refuse the rest (401, or a socket that closes)."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        given = dict(scope["headers"]).get(b"authorization", b"")
        if hmac.compare_digest(given, self._expected):
            await self._app(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
        else:
            await send({"type": "http.response.start", "status": 401, "headers": [(b"content-length", b"0")]})
            await send({"type": "http.response.body", "body": b""})


class _Server(uvicorn.Server):
    """Says when it answers."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started and not self.should_exit:
            os.write(sys.stdout.fileno(), READY)


def create_tables(database: Path) -> None:
    """Make the tables as Prefect's models have them: a second, where its hundred migrations take a quarter of a minute."""
    engine = sa.create_engine(f"sqlite:///{database}")
    metadata = provide_database_interface().Base.metadata
    with engine.begin() as connection:
        for table in metadata.sorted_tables:
            connection.execute(CreateTable(table, if_not_exists=True))
            for index in table.indexes:
                connection.execute(CreateIndex(index, if_not_exists=True))
    engine.dispose()


def serve(folder: Path, descriptor: int) -> None:
    """Serve on a socket that listens already, until the process ends."""
    auth_string = get_current_settings().server.api.auth_string
    if auth_string is None:
        sys.exit("a password is needed")
    try:
        create_tables(folder / DATABASE)
    except (sa.exc.SQLAlchemyError, sqlite3.Error, OSError) as error:
        sys.exit(f"cannot make its database: {getattr(error, 'orig', error)}")
    app = Guarded(create_app(ephemeral=True, final=True), auth_string.get_secret_value())
    config = uvicorn.Config(app, log_config=None, access_log=False, lifespan="on", server_header=False)
    with socket.socket(fileno=descriptor) as listening:
        asyncio.run(_Server(config).serve(sockets=[listening]))
