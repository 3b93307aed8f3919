"""What the error answers of Google Cloud Storage and Azure mean, and what to do about them."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from moderation.errors import ErrorCode, StorageError
from moderation.storage.answers import one_line
from moderation.storage.retrying import TransientError


@dataclass(frozen=True)
class Service:
    """What an error of one service says to do."""

    name: str
    container: str
    """its word for a bucket"""
    refused: Mapping[str, str]
    """advice by the service's own error code"""
    missing: frozenset[str] = field(default_factory=frozenset)
    """codes for a bucket or container that does not exist"""
    archived: Mapping[str, str] = field(default_factory=dict)
    """codes of objects in an archive, and what to do"""


_GCS_KEYS = "check GOOGLE_APPLICATION_CREDENTIALS or GOOGLE_SERVICE_ACCOUNT"
GCS = Service(
    name="Google Cloud Storage",
    container="bucket",
    refused={
        "AccessDenied": "no permission: the credentials need Storage Object Viewer, and Storage Object User for results",
        "AuthenticationRequired": f"the store does not accept the credentials: {_GCS_KEYS}",
        "InvalidAuthentication": f"the store does not accept the credentials: {_GCS_KEYS}",
        "ExpiredToken": f"the token has expired: {_GCS_KEYS}",
        "InvalidSecurity": f"the store does not accept the credentials: {_GCS_KEYS}",
        "UserProjectMissing": "the bucket's readers pay: set GOOGLE_CLOUD_QUOTA_PROJECT to the project to charge",
        "UserProjectAccessDenied": "GOOGLE_CLOUD_QUOTA_PROJECT names a project that these credentials may not charge",
        "AccountProblem": "the project has a problem with billing",
    },
    missing=frozenset({"NoSuchBucket"}),
)

_AZURE_KEYS = "check AZURE_STORAGE_ACCOUNT_KEY or AZURE_STORAGE_SAS_TOKEN, and the clock of this machine"
_AZURE_ROLE = "the credentials need the role Storage Blob Data Reader, and Storage Blob Data Contributor for results"
_AZURE_NONE = "the container is not public: set AZURE_STORAGE_ACCOUNT_KEY or AZURE_STORAGE_SAS_TOKEN, or sign in"
AZURE = Service(
    name="Azure Blob Storage",
    container="container",
    refused={
        "AuthenticationFailed": f"the store does not accept the credentials: {_AZURE_KEYS}",
        "InvalidAuthenticationInfo": f"the store does not accept the credentials: {_AZURE_KEYS}",
        "AuthorizationFailure": f"no permission: {_AZURE_ROLE}; the account's firewall may refuse this machine too",
        "AuthorizationPermissionMismatch": f"no permission: {_AZURE_ROLE}",
        "AuthorizationProtocolMismatch": "the SAS token allows https only",
        "AuthorizationResourceTypeMismatch": "the SAS token does not cover containers and objects: create one that does",
        "AuthorizationServiceMismatch": "the SAS token does not cover the blob service: create one that does",
        "AuthorizationSourceIPMismatch": "the SAS token is for another network address",
        "InsufficientAccountPermissions": f"no permission: {_AZURE_ROLE}",
        "AccountIsDisabled": "the account is disabled",
        "NoAuthenticationInformation": _AZURE_NONE,
        "PublicAccessNotPermitted": _AZURE_NONE,
        "KeyBasedAuthenticationNotPermitted": "the account does not allow account keys: sign in with `az login` or an identity",
    },
    missing=frozenset({"ContainerNotFound", "ContainerBeingDeleted", "ResourceNotFound"}),
    archived={
        "BlobArchived": "the object is archived: rehydrate it and run with `--full`, or skip it with `--exclude`",
        "BlobBeingRehydrated": "the object is archived and being rehydrated: run with `--full` later",
    },
)


def answered(service: Service, status: int, code: str, message: str) -> StorageError:
    """The error for an answer with this status (0: there was none), the service's own code and its sentence (or "")."""
    own = one_line(": ".join(filter(None, [code or (f"HTTP {status}" if status else ""), message])))
    if code in service.archived:
        return StorageError(ErrorCode.ARCHIVED, f"{service.archived[code]} ({own})")
    if code in service.refused:
        return StorageError(ErrorCode.ACCESS_DENIED, f"{service.refused[code]} ({own})")
    if code in service.missing:
        return StorageError(ErrorCode.NOT_FOUND, f"no such {service.container}")
    if status == 404:
        return StorageError(ErrorCode.NOT_FOUND, "no such object")
    if status == 412:
        return StorageError(ErrorCode.CHANGED, "the object changed after listing: its etag is different now")
    if status in (401, 403):
        return StorageError(ErrorCode.ACCESS_DENIED, own)
    if status in (501, 505) or (300 <= status < 500 and status not in (408, 429)):
        return StorageError(ErrorCode.STORAGE_ERROR, own)
    return TransientError(ErrorCode.STORAGE_ERROR, own)


def unreachable(setting: str, endpoint: str, reason: str) -> StorageError:
    """The error for an endpoint to which no connection can be made."""
    text = f"cannot reach {endpoint} ({reason}): check {setting} and the network"
    return TransientError(ErrorCode.STORAGE_ERROR, text)


def untrusted(endpoint: str, reason: str) -> StorageError:
    """The error for a certificate that cannot be verified."""
    text = f"is not trusted ({reason}): set SSL_CERT_FILE to the PEM file of the authority that signed it"
    return StorageError(ErrorCode.STORAGE_ERROR, f"the certificate of {endpoint} {text}")
