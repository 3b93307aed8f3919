"""Access to Google Cloud Storage: endpoint and credentials, from where Google's tools and obstore read them."""

import json
import logging
import threading
import warnings
from datetime import UTC
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import google.auth
from google.auth import exceptions as google_errors
from google.auth.transport.urllib3 import Request
from google.oauth2 import credentials as user
from google.oauth2 import service_account
from obstore.store import GCSStore

from moderation.errors import ErrorCode, StorageError
from moderation.storage.answers import one_line
from moderation.storage.cloud import RETRIES, client_options
from moderation.storage.cloud_answers import GCS
from moderation.storage.environment import checked_endpoint, is_on, setting
from moderation.storage.http_client import HttpClient
from moderation.storage.retrying import TransientError

if TYPE_CHECKING:
    from google.auth.credentials import Credentials
    from obstore.store import GCSConfig, GCSCredential

logging.getLogger("google.auth").setLevel(logging.ERROR)  # it warns of every try to find out whether this is Google's machine

ENDPOINT = "https://storage.googleapis.com"
_SCOPES = ("https://www.googleapis.com/auth/devstorage.read_write",)
_KEY = ("GOOGLE_SERVICE_ACCOUNT_KEY", "GOOGLE_SERVICE_ACCOUNT", "GOOGLE_SERVICE_ACCOUNT_PATH")
_KEY_FILE = _KEY[1:]
_SIGN_IN = "set GOOGLE_APPLICATION_CREDENTIALS to a key file, or run `gcloud auth application-default login`"


class GcsAccess(NamedTuple):
    """Credentials for one bucket."""

    http: HttpClient
    token: "Token | None"
    """None: nothing is signed"""
    project: str
    """what pays for requests; empty: the bucket's own project"""
    store: GCSStore


class Token:
    """An access token that is renewed when it ends. For threads."""

    def __init__(self, credentials: "Credentials", http: HttpClient) -> None:
        self._credentials, self._request = credentials, Request(http.pool)  # type: ignore[no-untyped-call]
        self._lock = threading.Lock()

    def __call__(self) -> "GCSCredential":
        """In obstore's form. Raises `StorageError`."""
        with self._lock:
            if not self._credentials.valid:
                try:
                    self._credentials.refresh(self._request)  # type: ignore[no-untyped-call]
                except (google_errors.GoogleAuthError, ValueError) as error:
                    raise _refused(error) from None
            expiry = self._credentials.expiry
            return {"token": str(self._credentials.token), "expires_at": expiry.replace(tzinfo=UTC) if expiry else None}


def connect(bucket: str, connections: int) -> GcsAccess:
    """Clients of our own and of obstore with the same settings, each for `connections` threads. Nothing is sent yet.

    Raises:
        StorageError: there are no credentials, or a setting cannot be used.
    """
    info = _service_account()
    emulator = setting("STORAGE_EMULATOR_HOST")
    if emulator and "://" not in emulator:
        emulator = f"http://{emulator}"
    own = str(info.get("gcs_base_url") or "") if info else ""
    given = {"GOOGLE_BASE_URL": setting("GOOGLE_BASE_URL"), "gcs_base_url": own, "STORAGE_EMULATOR_HOST": emulator}
    name, url = next(((name, url) for name, url in given.items() if url), ("", ENDPOINT))
    endpoint = checked_endpoint(name, url, "GOOGLE_ALLOW_HTTP")
    http = HttpClient(GCS, endpoint, connections, name or "GOOGLE_BASE_URL")
    open_to_all = name == "STORAGE_EMULATOR_HOST" or (info is not None and info.get("disable_oauth") is True)
    token, project = None, setting("GOOGLE_CLOUD_QUOTA_PROJECT")
    if not open_to_all and not is_on("GOOGLE_SKIP_SIGNATURE"):
        credentials = _credentials(info)
        project = project or getattr(credentials, "quota_project_id", None) or ""
        token = Token(credentials, http)
    options = client_options(connections)
    options["allow_http"] = endpoint.startswith("http://")
    if project:
        options["default_headers"] = {"x-goog-user-project": project}
    config: GCSConfig = {"base_url": endpoint}
    store = GCSStore(bucket, config=config, client_options=options, retry_config=RETRIES, credential_provider=token or _nobody)
    return GcsAccess(http, token, project, store)


def _nobody() -> "GCSCredential":
    """No token, where nothing is signed: obstore's own switch for that is for reading only."""
    return {"token": "", "expires_at": None}


def _service_account() -> dict[str, Any] | None:
    """The key that obstore's own variables name; None if they are not set."""
    if text := setting("GOOGLE_SERVICE_ACCOUNT_KEY"):
        return _parsed("GOOGLE_SERVICE_ACCOUNT_KEY", text)
    path = setting(*_KEY_FILE)
    if not path:
        return None
    name = next(name for name in _KEY_FILE if setting(name))
    try:
        return _parsed(name, Path(path).expanduser().read_text("utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise _unusable(f"{name} names {path!r}, which cannot be read ({reason}): give the path of a key file") from None


def _parsed(name: str, text: str) -> dict[str, Any]:
    try:
        info = json.loads(text)
    except (ValueError, RecursionError) as error:
        where = f", line {error.lineno} column {error.colno}" if isinstance(error, json.JSONDecodeError) else ""
        raise _unusable(f"{name} is not JSON{where}: give a service account's key file, unchanged") from None
    if not isinstance(info, dict):
        raise _unusable(f"{name} is not a JSON object: give a service account's key file, unchanged")
    return info


def _credentials(info: dict[str, Any] | None) -> "Credentials":
    if bearer := setting("GOOGLE_BEARER_TOKEN"):
        return user.Credentials(bearer)  # type: ignore[no-untyped-call]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # advice on projects, for developers
        try:
            if info is not None:
                own: Credentials = service_account.Credentials.from_service_account_info(  # type: ignore[no-untyped-call]
                    info, scopes=_SCOPES
                )
                return own
            found, _ = google.auth.default(scopes=_SCOPES)
        except (google_errors.GoogleAuthError, ValueError, KeyError, TypeError, AttributeError, OSError) as error:
            raise _unusable(_problem(info is not None, error)) from None
    return found


def _problem(own_key: bool, error: Exception) -> str:
    """What is wrong with the credentials, without what their file says: it holds a key."""
    path = setting("GOOGLE_APPLICATION_CREDENTIALS")
    if own_key:
        what = f"the key that {next((name for name in _KEY if setting(name)), '')} gives"
    elif path:
        what = f"GOOGLE_APPLICATION_CREDENTIALS names {path!r}, which"
    elif isinstance(error, google_errors.DefaultCredentialsError) and "not found" in str(error):
        return f"no Google credentials found: {_SIGN_IN}; for a public bucket, set GOOGLE_SKIP_SIGNATURE=true"
    else:
        what = "what `gcloud auth` stored"
    text = str(error)
    if "was not found" in text:
        fault = "no such file"
    elif "missing fields" in text:
        fault = "fields are missing: " + one_line(text.rpartition("missing fields")[2].strip(" :."))
    elif "PEM" in text or "deserialize" in text:
        fault = "its private key is not a PEM key"
    elif isinstance(error, OSError):
        fault = error.strerror or type(error).__name__
    else:
        fault = "it is not a credentials file"
    return f"{what} cannot be used ({fault}): use the file as Google created it"


def _refused(error: Exception) -> StorageError:
    if isinstance(error, google_errors.TransportError):
        return TransientError(
            ErrorCode.STORAGE_ERROR, f"Google's sign-in gives no access token and does not answer ({one_line(str(error))})"
        )
    reason = one_line(str(error.args[0]) if error.args else type(error).__name__)
    return StorageError(ErrorCode.ACCESS_DENIED, f"Google gives no access token ({reason}): {_SIGN_IN}")


def _unusable(message: str) -> StorageError:
    return StorageError(ErrorCode.ACCESS_DENIED, message)
