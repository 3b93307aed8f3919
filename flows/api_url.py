"""Where Prefect's API is named, read without Prefect: importing Prefect already reads all of these, and fails on broken ones.

The order is Prefect's own: environment, `.env`, `prefect.toml` and `pyproject.toml` of the current folder, then the profile.
"""

import io
import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dotenv import dotenv_values

from moderation.errors import SettingsError

VARIABLE = "PREFECT_API_URL"
_BUILT_IN = {"ephemeral": "", "local": "http://127.0.0.1:4200/api", "test": "", "cloud": ""}
"""The profiles that Prefect brings along, with the URL of each."""


@dataclass(frozen=True, slots=True)
class ApiUrl:
    """The address of a Prefect API, and where it is set."""

    url: str
    place: str
    """in words, such as "the environment" """


def named_api_url() -> ApiUrl | None:
    """The address that the user's surroundings name; None where nothing does.

    Raises:
        SettingsError: a file that could name one cannot be read, or the chosen profile does not exist.
    """
    for place, found in (
        ("the environment", _ignoring_case(os.environ)),
        (str(_absolute(Path(".env"))), _dotenv()),
        (str(_absolute(Path("prefect.toml"))), _api_table(_toml(Path("prefect.toml")))),
        (str(_absolute(Path("pyproject.toml"))), _api_table(_pyproject())),
    ):
        if VARIABLE in found:
            _toml(_profiles_path())  # Prefect reads it all the same
            return _api_url(found[VARIABLE], place)
    return _profile()


def _api_url(value: object, place: str) -> ApiUrl | None:
    text = str(value or "").strip()
    return ApiUrl(text, place) if text else None  # set and empty: Prefect takes it for no address


def _profile() -> ApiUrl | None:
    path = _profiles_path()
    content = _toml(path)
    profiles = content.get("profiles", {})
    name = str(os.environ.get("PREFECT_PROFILE") or content.get("active") or "ephemeral")
    if isinstance(profiles, dict) and isinstance(profiles.get(name), dict):
        return _api_url(_ignoring_case(profiles[name]).get(VARIABLE), f"the profile {name!r} of {path}")
    if name in _BUILT_IN and (not _BUILT_IN[name] or _is_usual(path)):
        return _api_url(_BUILT_IN[name], f"Prefect's built-in profile {name!r}")
    where = "PREFECT_PROFILE names" if os.environ.get("PREFECT_PROFILE") else f"{path} names"
    raise SettingsError(f"{where} the Prefect profile {name!r}, which {path} does not define")


def _is_usual(path: Path) -> bool:
    """Whether there is no file of profiles, nor a place of the user's for it: then alone Prefect looks into its own."""
    return (
        not os.environ.get("PREFECT_HOME")
        and path.name == "profiles.toml"
        and path.parent.name == ".prefect"
        and not path.exists()
    )


def _profiles_path() -> Path:
    variables = _ignoring_case(os.environ)
    for named in (
        variables.get("PREFECT_PROFILES_PATH"),
        _dotenv().get("PREFECT_PROFILES_PATH"),
        _toml(Path("prefect.toml")).get("profiles_path"),
        _pyproject().get("profiles_path"),
    ):
        if named:
            return Path(str(named))
    home = variables.get("PREFECT_HOME")
    try:
        return (Path(str(home)).expanduser() if home else Path.home() / ".prefect") / "profiles.toml"
    except RuntimeError:  # a user without a home folder
        return Path("/nonexistent/profiles.toml")


def _ignoring_case(values: Mapping[str, Any]) -> dict[str, Any]:
    """By upper-case name: Prefect minds no case. The first one counts."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        found.setdefault(name.upper(), value)
    return found


def _dotenv() -> dict[str, Any]:
    text = _text(Path(".env"))
    values = dotenv_values(stream=io.StringIO(text)) if text is not None else {}
    return _ignoring_case({name: value for name, value in values.items() if value is not None})


def _pyproject() -> dict[str, Any]:
    tool = _toml(Path("pyproject.toml")).get("tool", {})
    table = tool.get("prefect", {}) if isinstance(tool, dict) else {}
    return table if isinstance(table, dict) else {}


def _api_table(content: Mapping[str, Any]) -> dict[str, Any]:
    """The address that a TOML file's table `api` names, by the variable's name."""
    table = content.get("api", {})
    return {VARIABLE: table["url"]} if isinstance(table, dict) and "url" in table else {}


def _toml(path: Path) -> dict[str, Any]:
    text = _text(path)
    if text is None:
        return {}
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        if "prefect" not in text.lower() and path.name == "pyproject.toml":
            return {}  # some other project's
        raise SettingsError(f"{_absolute(path)} is not valid TOML, but Prefect reads it: {error}") from None


def _absolute(path: Path) -> Path:
    """For messages; as it is where the current folder is gone, which names nothing."""
    try:
        return path.absolute()
    except OSError:
        return path


def _text(path: Path) -> str | None:
    """A file's text; None where there is none that this user can get at, or where it is no text and not about Prefect."""
    try:
        endless = path.suffix == ".toml" and path.is_fifo()
        content = path.read_bytes() if path.is_file() else b""
    except OSError as error:
        if not os.access(path.parent, os.X_OK):
            return None  # somebody else's home folder
        raise SettingsError(f"cannot read {_absolute(path)}, which may name Prefect's API: {error.strerror}") from None
    if endless:
        raise SettingsError(f"{_absolute(path)} is a pipe, and Prefect waits forever to read it: remove it")
    if not content:
        return None
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        if b"prefect" in content.lower():
            raise SettingsError(f"{_absolute(path)} is not UTF-8 text, but Prefect reads it") from None
        return None
