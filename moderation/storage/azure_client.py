"""Access to Azure Blob Storage: account, endpoint and credentials, from where Azure's tools and obstore read them."""

import base64
import binascii
import logging
import re
import threading
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, NamedTuple

from azure.core.credentials import AccessToken
from azure.core.exceptions import AzureError, ClientAuthenticationError
from obstore.store import AzureStore

from moderation.errors import ErrorCode, StorageError
from moderation.storage.answers import one_line
from moderation.storage.azure_signature import SharedKey
from moderation.storage.cloud import RETRIES, client_options
from moderation.storage.cloud_answers import AZURE
from moderation.storage.environment import checked_endpoint, is_on, setting
from moderation.storage.http_client import HttpClient

if TYPE_CHECKING:
    from azure.core.credentials import TokenCredential
    from obstore.store import AzureBearerToken, AzureConfig

_KEYS = ("AZURE_STORAGE_ACCOUNT_KEY", "AZURE_STORAGE_ACCESS_KEY", "AZURE_STORAGE_MASTER_KEY", "AZURE_STORAGE_KEY")
_SAS = ("AZURE_STORAGE_SAS_TOKEN", "AZURE_STORAGE_SAS_KEY")
_ENDPOINTS = ("AZURE_STORAGE_ENDPOINT", "AZURE_ENDPOINT")
_SCOPE = "https://storage.azure.com/.default"
_RENEWED_BEFORE = 300
"""seconds before its end at which a token is renewed"""
_EMULATOR_ACCOUNT = "devstoreaccount1"
_EMULATOR_KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="  # a public constant


class AzureAccess(NamedTuple):
    """Credentials for one container: of `key`, `sas` and `token`, one at most is set; none for a public container."""

    http: HttpClient
    key: SharedKey | None
    sas: str
    token: "Token | None"
    store: AzureStore


class Token:
    """An access token of Entra ID that is renewed before it ends. For threads."""

    def __init__(self, credential: "TokenCredential") -> None:
        self._credential = credential
        self._lock = threading.Lock()
        self._token: AccessToken | None = None

    def __call__(self) -> "AzureBearerToken":
        """In obstore's form. Raises `StorageError`."""
        with self._lock:
            if self._token is None or self._token.expires_on - time.time() < _RENEWED_BEFORE:
                try:
                    self._token = self._credential.get_token(_SCOPE)
                except ClientAuthenticationError as error:
                    raise _no_credentials(_first_reason(str(error))) from None
                except (AzureError, ValueError, OSError) as error:
                    raise _no_credentials(one_line(str(error))) from None
            return {"token": self._token.token, "expires_at": datetime.fromtimestamp(self._token.expires_on, UTC)}


def connect(container: str, connections: int) -> AzureAccess:
    """Clients of our own and of obstore with the same settings, each for `connections` threads. Nothing is sent yet.

    Raises:
        StorageError: the account is not named, there are no credentials, or a setting cannot be used.
    """
    given = _connection_string()
    emulated = is_on("AZURE_STORAGE_USE_EMULATOR") or given.get("usedevelopmentstorage", "").lower() == "true"
    account = setting("AZURE_STORAGE_ACCOUNT_NAME", "AZURE_STORAGE_ACCOUNT") or given.get("accountname", "")
    key = setting(*_KEYS) or given.get("accountkey", "")
    sas = (setting(*_SAS) or given.get("sharedaccesssignature", "")).lstrip("?")
    if emulated:
        account, key = account or _EMULATOR_ACCOUNT, key or ("" if sas else _EMULATOR_KEY)
    name, url = _endpoint(given, account, emulated)
    if not account:
        raise _unusable("no storage account: set AZURE_STORAGE_ACCOUNT_NAME, or AZURE_STORAGE_CONNECTION_STRING")
    if not re.fullmatch("[a-z0-9]+", account):
        raise _unusable(f"AZURE_STORAGE_ACCOUNT_NAME {account!r} is not an account name: use lower-case letters and digits")
    endpoint = checked_endpoint(name, url, "AZURE_ALLOW_HTTP")
    http = HttpClient(AZURE, endpoint, connections, name)
    options = client_options(connections)
    options["allow_http"] = endpoint.startswith("http://")
    config: AzureConfig = {"account_name": account, "endpoint": endpoint, "use_emulator": False}
    shared, token = None, None
    if is_on("AZURE_SKIP_SIGNATURE"):
        key, sas = "", ""
        config["skip_signature"] = True
    elif bearer := setting("AZURE_STORAGE_TOKEN"):
        key, sas, token = "", "", Token(_Static(bearer))
    elif key:
        shared, sas = SharedKey(account, _decoded(key)), ""
        config["account_key"] = key
        config["credential_type"] = "access_key"
    elif sas:
        config["sas_key"] = sas
        config["credential_type"] = "sas_token"
    else:
        token = Token(_entra())
    store = AzureStore(container, config=config, client_options=options, retry_config=RETRIES, credential_provider=token)
    return AzureAccess(http, shared, sas, token, store)


def _endpoint(given: dict[str, str], account: str, emulated: bool) -> tuple[str, str]:
    """The variable that names the endpoint, and the endpoint."""
    name = next((name for name in _ENDPOINTS if setting(name)), "")
    if name:
        return name, setting(name)
    if emulated:
        host = setting("AZURITE_BLOB_STORAGE_URL") or "http://127.0.0.1:10000"
        return "AZURITE_BLOB_STORAGE_URL", f"{host.rstrip('/')}/{account}"
    if "blobendpoint" in given:
        return "BlobEndpoint in AZURE_STORAGE_CONNECTION_STRING", given["blobendpoint"]
    suffix = given.get("endpointsuffix", "core.windows.net")
    return "AZURE_STORAGE_ACCOUNT_NAME", f"https://{account}.blob.{suffix}"


def _connection_string() -> dict[str, str]:
    """The parts of AZURE_STORAGE_CONNECTION_STRING, names in lower case."""
    text = setting("AZURE_STORAGE_CONNECTION_STRING")
    parts = [part.partition("=") for part in text.split(";") if part.strip()]
    if not all(separator and value for _, separator, value in parts):
        raise _unusable("AZURE_STORAGE_CONNECTION_STRING is not a connection string: copy all of it, including AccountName=")
    return {name.strip().lower(): value.strip() for name, _, value in parts}


def _decoded(key: str) -> bytes:
    try:
        return base64.b64decode(key, validate=True)
    except (binascii.Error, ValueError):
        raise _unusable("the key of the storage account is not Base64: copy all of AZURE_STORAGE_ACCOUNT_KEY") from None


def _entra() -> "TokenCredential":
    from azure.identity import DefaultAzureCredential  # noqa: PLC0415 - half a second, for those who sign in this way

    logging.getLogger("azure").setLevel(logging.CRITICAL)  # it warns of each of the ways in that it tries
    try:
        return DefaultAzureCredential(
            exclude_visual_studio_code_credential=True,
            exclude_powershell_credential=True,
            exclude_developer_cli_credential=True,
        )
    except ValueError as error:
        raise _no_credentials(one_line(str(error))) from None


class _Static:
    """A token issued elsewhere."""

    def __init__(self, token: str) -> None:
        self._token = token

    def get_token(self, *scopes: str, **_: object) -> "AccessToken":  # noqa: ARG002
        return AccessToken(self._token, int(time.time()) + 3600)


def _first_reason(text: str) -> str:
    """Of the page that azure-identity writes about every way that it tried, the first that is set up; "" if none is."""
    lines = [line.strip() for line in text.splitlines() if "Credential: " in line]
    missing = ("unavailable", "not available", "not installed", "not found", "not set up", "requires", "No accounts")
    return one_line(next((line for line in lines if not any(word in line for word in missing)), ""))


def _no_credentials(reason: str) -> StorageError:
    ways = "set AZURE_STORAGE_ACCOUNT_KEY or AZURE_STORAGE_SAS_TOKEN, sign in with `az login`, or give the machine an identity"
    return _unusable(
        f"no Azure credentials: {ways}; for a public container, set AZURE_SKIP_SIGNATURE=true{f' ({reason})' if reason else ''}"
    )


def _unusable(message: str) -> StorageError:
    return StorageError(ErrorCode.ACCESS_DENIED, message)
