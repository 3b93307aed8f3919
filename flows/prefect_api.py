"""The Prefect API that a flow runs with: the configured one, or a temporary server for this run.

A configured API is checked before anything starts. Without one, nothing of the user's Prefect is used: not its database,
settings, profile or proxy, nor files in the current folder.
"""

import contextlib
import functools
import ipaddress
import os
import sys
import warnings
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pydantic import ValidationError

from flows.api_url import VARIABLE, ApiUrl, named_api_url
from flows.temporary_server import TemporaryServer, own_settings
from moderation.common.environment import environment
from moderation.common.loopback import direct_loopback
from moderation.common.safe_text import visible
from moderation.common.secrets import redacted
from moderation.errors import SettingsError

TRY_S = 30.0
"""Seconds after which a named API counts as dead."""

_available: ContextVar[bool] = ContextVar("prefect_api", default=False)


@contextlib.contextmanager
def prefect_api(*, quiet: bool = False) -> Iterator[None]:
    """Provide a Prefect API in this context. A command enters it before importing Prefect; in a flow run it changes nothing.

    Args:
        quiet: Prefect logs nothing but what ends the process.

    Raises:
        SettingsError: the configured API gives an unexpected answer, or Prefect's settings cannot be read.
        RunError: the temporary server could not start.
    """
    if _available.get() or _in_a_flow_run():
        yield
        return
    logging = {"PREFECT_LOGGING_LEVEL": "CRITICAL"} if quiet else {}
    named = named_api_url()
    with contextlib.ExitStack() as stack:
        stack.enter_context(environment(direct_loopback()))
        if named is None:
            stack.enter_context(_temporary_server(logging))
        else:
            os.environ.update(logging)
            _try(named)
            if _is_loopback(named.url):
                stack.enter_context(_clients_without_proxy())
        token = _available.set(True)
        stack.callback(_available.reset, token)
        yield


def _in_a_flow_run() -> bool:
    context = sys.modules.get("prefect.context")
    return context is not None and context.FlowRunContext.get() is not None


@contextlib.contextmanager
def _temporary_server(logging: Mapping[str, str]) -> Iterator[None]:
    server = TemporaryServer()
    try:
        server.start()
        with _no_variables_of_the_user({**own_settings(server.folder), **logging}):
            settings = _settings_for(server)
            with settings, _clients_without_proxy(), _no_events():
                server.wait()
                yield
    finally:
        server.stop()


@contextlib.contextmanager
def _no_variables_of_the_user(own: Mapping[str, str]) -> Iterator[None]:
    """For as long as the run lasts: Prefect, and what it starts, look at the environment now and then."""
    before = {name: value for name, value in os.environ.items() if name.upper().startswith("PREFECT_") or name in own}
    for name in before:
        del os.environ[name]
    try:
        with environment(own):
            yield
    finally:
        os.environ.update(before)


def _settings_for(server: TemporaryServer) -> contextlib.AbstractContextManager[Any]:
    """Prefect's settings for this server, as a context; read where no file of the user's lies.

    In a process that has not imported Prefect, what it reads now is what it keeps for all of its threads.
    """
    own = {
        VARIABLE: server.address,
        "PREFECT_API_AUTH_STRING": server.password,
        "PREFECT_CLIENT_CSRF_SUPPORT_ENABLED": "false",  # for browsers; this server answers to its password only
        "PREFECT_LOGGING_TO_API_ENABLED": "false",  # logs that go with the server
    }
    homeless = {} if os.environ.get("HOME") else {"HOME": str(server.folder)}
    with _in_folder(server.folder), environment({**own, **homeless}):
        import prefect.main  # noqa: F401, PLC0415
        from prefect.context import SettingsContext  # noqa: PLC0415
        from prefect.settings import Profile, Settings  # noqa: PLC0415

        return SettingsContext(profile=Profile(name="temporary"), settings=Settings())


@contextlib.contextmanager
def _no_events() -> Iterator[None]:
    """Events are for those who act on them, and nobody does on a server that goes with the run."""
    from prefect.events.clients import NullEventsClient  # noqa: PLC0415
    from prefect.events.worker import EventsWorker  # noqa: PLC0415

    EventsWorker.set_client_override(NullEventsClient)
    try:
        yield
    finally:
        EventsWorker.set_client_override(None)


def _try(named: ApiUrl) -> None:
    """Check that the configured API answers. If not, raises `SettingsError`, which says where it is configured."""
    where = f"Prefect's API at {visible(redacted(named.url))} ({VARIABLE} from {named.place})"
    try:
        parts = urlsplit(named.url)
        well = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0 and named.url.isprintable()
    except ValueError:
        well = False
    if not well:
        raise SettingsError(f"{where} is not an address: give one such as http://127.0.0.1:4200/api, or unset it")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a URL without /api: said below, in one line
        problem = _problem()
    if problem:
        raise SettingsError(f"{where} {problem}; unset it to run on a temporary server")


def _problem() -> str | None:
    """What is wrong with the API of Prefect's settings, in words."""
    try:
        import prefect.main  # noqa: F401, PLC0415
        from prefect.client.orchestration import get_client  # noqa: PLC0415
        from prefect.settings import get_current_settings, temporary_settings  # noqa: PLC0415
    except Exception as error:  # noqa: BLE001 - pydantic's, tomllib's, Prefect's own: whatever its settings files are like
        return f"cannot be used: Prefect's settings cannot be read: {one_line(error)}"
    import httpx  # noqa: PLC0415

    settings = {"timeout": TRY_S, "trust_env": not _is_loopback(get_current_settings().api.url or "")}
    try:
        with temporary_settings({"PREFECT_CLIENT_MAX_RETRIES": 0}), get_client(settings, sync_client=True) as client:
            answer = client.hello()
        if "json" in answer.headers.get("content-type", ""):
            return None
        return "is not Prefect's API, whose address usually ends in /api"
    except httpx.HTTPStatusError as error:
        status = error.response.status_code
        if status in (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN):
            return (
                f"refuses the password (HTTP {status}): set PREFECT_API_AUTH_STRING, such as admin:PASSWORD, or PREFECT_API_KEY"
            )
        return f"gives an unexpected answer: HTTP {status}"
    except Exception as error:  # noqa: BLE001 - httpx's, ssl's, a proxy's library that is missing
        return f"does not answer: {one_line(error)}"


def one_line(error: BaseException) -> str:
    """An error's text, or else its name, without line breaks and secrets."""
    text = " ".join(str(error).split())
    if isinstance(error, ValidationError):
        text = "; ".join(f"{error.title}, {'.'.join(map(str, one['loc']))}: {one['msg'].lower()}" for one in error.errors())
    return redacted(text)[:300] or type(error).__name__


def _is_loopback(url: str) -> bool:
    try:
        host = urlsplit(url).hostname or ""
        return host.lower() == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


@contextlib.contextmanager
def _clients_without_proxy() -> Iterator[None]:
    """Prefect's clients read no proxy from the environment: they would fail on one of a kind that they do not know, unused."""
    from prefect.client.base import PrefectHttpxAsyncClient, PrefectHttpxSyncClient  # noqa: PLC0415

    before = [(client, client.__init__) for client in (PrefectHttpxAsyncClient, PrefectHttpxSyncClient)]
    for client, usual in before:
        setattr(client, "__init__", functools.partialmethod(usual, trust_env=False))  # noqa: B010
    try:
        yield
    finally:
        for client, usual in before:
            setattr(client, "__init__", usual)  # noqa: B010


@contextlib.contextmanager
def _in_folder(folder: Path) -> Iterator[None]:
    """Change to a folder for a moment. Also works from folders that are gone or inaccessible."""
    here = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_PATH)
    try:
        os.chdir(folder)
        yield
    finally:
        os.fchdir(here)
        os.close(here)
