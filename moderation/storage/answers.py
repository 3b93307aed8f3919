"""What the error answers of object stores mean: our code, whether it may pass, and what to do about it."""

from moderation.errors import ErrorCode, StorageError
from moderation.storage.retrying import TransientError

_KEYS = "check AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
_SIGN_IN = "sign in again (`aws sso login`), or renew AWS_SESSION_TOKEN"
_REGION = "the bucket lies in another region: set AWS_REGION to it"

_REFUSED = {
    "AccessDenied": "no permission: these credentials need s3:ListBucket and s3:GetObject, and s3:PutObject for results",
    "InvalidAccessKeyId": f"the store does not know the access key: {_KEYS}",
    "SignatureDoesNotMatch": f"the secret does not belong to the access key: {_KEYS}",
    "ExpiredToken": f"the session has expired: {_SIGN_IN}",
    "TokenRefreshRequired": f"the session has expired: {_SIGN_IN}",
    "InvalidToken": f"the session token is not valid: {_SIGN_IN}",
    "RequestTimeTooSkewed": "the clock of this machine is wrong: set it",
    "PermanentRedirect": _REGION,
    "TemporaryRedirect": _REGION,
    "AuthorizationHeaderMalformed": _REGION,
    "IllegalLocationConstraintException": _REGION,
}
WRONG_REGION = frozenset(code for code, told in _REFUSED.items() if told == _REGION)

_NOT_FOUND = {"NoSuchKey": "no such object", "NoSuchBucket": "no such bucket"}

_PASSING = frozenset(
    {"BadDigest", "ConditionalRequestConflict", "IncompleteBody", "NoSuchUpload", "OperationAborted", "RequestTimeout"}
    | {"RequestTimeoutException", "SlowDown", "Throttling", "ThrottlingException", "XAmzContentSHA256Mismatch"}
)
"""codes that come with 4xx and pass nevertheless"""


def failed(status: int, code: str, text: str) -> StorageError:
    """The error for an HTTP status (0: there was none) and the store's own code ("": there was none)."""
    if code in _PASSING:
        return TransientError(ErrorCode.STORAGE_ERROR, text)
    if code in _REFUSED:
        return StorageError(ErrorCode.ACCESS_DENIED, f"{_REFUSED[code]} ({code})")
    if code == "NotImplemented":
        told = "the store lacks something that is needed, perhaps conditional writes: use a newer version of it, or another"
        return StorageError(ErrorCode.STORAGE_ERROR, f"{told} ({code})")
    if status == 404:
        return StorageError(ErrorCode.NOT_FOUND, _NOT_FOUND.get(code, "no such object"))
    if status == 412:
        return StorageError(ErrorCode.CHANGED, "the object changed after listing: its etag is another now")
    if status in (401, 403):
        return StorageError(ErrorCode.ACCESS_DENIED, text)
    if status == 501 or (300 <= status < 500 and status not in (408, 429)):
        return StorageError(ErrorCode.STORAGE_ERROR, text)
    return TransientError(ErrorCode.STORAGE_ERROR, text)


def no_credentials(reason: str) -> StorageError:
    """The error for credentials that cannot be had."""
    return StorageError(ErrorCode.ACCESS_DENIED, f"no valid credentials: sign in again (`aws sso login`): {reason}")


def untrusted(endpoint: str, reason: str) -> StorageError:
    """The error for a certificate that cannot be verified."""
    told = f"is not trusted ({reason}): set AWS_CA_BUNDLE to the PEM file of the authority that signed it"
    return StorageError(ErrorCode.STORAGE_ERROR, f"the certificate of {endpoint} {told}")


def one_line(text: str) -> str:
    """A text of any origin as one line of 300 characters at most."""
    return " ".join(text.split())[:300]
