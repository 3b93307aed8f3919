"""What the error answers of object stores mean: our code, whether the error may be temporary, and what to do."""

import os
import re
from html import unescape

from moderation.common.secrets import HIDDEN, redacted
from moderation.errors import ErrorCode, StorageError
from moderation.storage.retrying import TransientError

_KEYS = "check AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
_SIGN_IN = "sign in again (`aws sso login`), or renew AWS_SESSION_TOKEN"
_REGION = "the bucket is in another region: set AWS_REGION to it"

_REFUSED = {
    "AccessDenied": "no permission: these credentials need s3:ListBucket and s3:GetObject, and s3:PutObject for results",
    "InvalidAccessKeyId": f"the store does not know the access key: {_KEYS}",
    "SignatureDoesNotMatch": f"the secret does not belong to the access key: {_KEYS}",
    "ExpiredToken": f"the session has expired: {_SIGN_IN}",
    "TokenRefreshRequired": f"the session has expired: {_SIGN_IN}",
    "InvalidToken": f"the session token is not valid: {_SIGN_IN}",
    "RequestExpired": "this machine's clock is wrong: correct it",
    "RequestTimeTooSkewed": "this machine's clock is wrong: correct it",
    "PermanentRedirect": _REGION,
    "TemporaryRedirect": _REGION,
    "AuthorizationHeaderMalformed": _REGION,
    "IllegalLocationConstraintException": _REGION,
}
WRONG_REGION = frozenset(code for code, message in _REFUSED.items() if message == _REGION)

_ARCHIVED = frozenset({"InvalidObjectState", "BlobArchived", "BlobBeingRehydrated"})
"""S3 Glacier and Deep Archive, Azure's archive tier. Google's archive class is read like any other, and so is GLACIER_IR."""
_RESTORE = "the object is archived and cannot be read: restore it, or skip it with `--exclude`"

_KEY = "the KMS key that the object is encrypted with cannot be used: have it enabled, or skip the object"

_ACTION = re.compile(r"not authorized to perform:? ([a-z0-9-]+:[A-Za-z]+)")

_NOT_FOUND = {"NoSuchKey": "no such object", "NoSuchBucket": "no such bucket"}

_PASSING = frozenset(
    {"BadDigest", "ConditionalRequestConflict", "IncompleteBody", "NoSuchUpload", "OperationAborted", "RequestTimeout"}
    | {"RequestTimeoutException", "SlowDown", "Throttling", "ThrottlingException", "XAmzContentSHA256Mismatch"}
)
"""codes that come with 4xx but are temporary"""


def failed(status: int, code: str, text: str, sentence: str = "") -> StorageError:
    """The error for an HTTP status (0: there was none) and the store's own code ("": there was none).

    `text` is what happened, `sentence` the store's own message, which is always shown.
    """
    said = one_line(unescape(sentence))
    if code in _PASSING or code.endswith("ThrottlingException"):
        return TransientError(ErrorCode.STORAGE_ERROR, text)
    if code in _ARCHIVED:
        return StorageError(ErrorCode.ARCHIVED, _with(_RESTORE, said, code))
    if code.startswith("KMS."):  # with 400 mostly
        return StorageError(ErrorCode.ACCESS_DENIED, _with(_KEY, said, code))
    if code in _REFUSED:
        action = _ACTION.search(said)
        message = f"no permission: these credentials need {action[1]}" if action else _REFUSED[code]
        return StorageError(ErrorCode.ACCESS_DENIED, _with(message, said, code))
    if code == "NotImplemented":
        message = "the store lacks a required feature, perhaps conditional writes: use a newer version of it, or another store"
        return StorageError(ErrorCode.STORAGE_ERROR, _with(message, said, code))
    if status == 404:
        return StorageError(ErrorCode.NOT_FOUND, _NOT_FOUND.get(code, "no such object"))
    if status == 412:
        return StorageError(ErrorCode.CHANGED, "the object changed after listing: its etag is different now")
    if status in (401, 403):
        return StorageError(ErrorCode.ACCESS_DENIED, text)
    if status in (501, 505) or (300 <= status < 500 and status not in (408, 429)):
        return StorageError(ErrorCode.STORAGE_ERROR, text)
    return TransientError(ErrorCode.STORAGE_ERROR, text)


def _with(message: str, said: str, code: str) -> str:
    return f"{message}; the store says: {said.rstrip('. ')} ({code})" if said else f"{message} ({code})"


def no_credentials(reason: str) -> StorageError:
    """The error for credentials that are not available."""
    return StorageError(ErrorCode.ACCESS_DENIED, f"no valid credentials: sign in again (`aws sso login`): {reason}")


def untrusted(endpoint: str, reason: str) -> StorageError:
    """The error for a certificate that cannot be verified."""
    message = f"is not trusted ({reason}): set AWS_CA_BUNDLE to the PEM file of the authority that signed it"
    return StorageError(ErrorCode.STORAGE_ERROR, f"the certificate of {redacted(endpoint)} {message}")


_SECRET = re.compile(
    r"(?i:AWS4-[A-Z0-9-]+\s+credential\b|\b(?:authorization|x-amz-security-token|cookie)\b\s*[:=]|\bbearer\s+(?=\S{16})"
    r"|\bsharedkey(?:lite)?\s+\S+:).*"
    r"|(?i:\bcredential=|\b(?:signature|(?:session|security)?_?token|(?:aws_?)?(?:secret\w*|password))\b\s*[=:]\s*)\S+",
    re.DOTALL,
)
_SECRET_VARIABLES = (
    *("AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AZURE_CLIENT_SECRET", "GOOGLE_BEARER_TOKEN", "AZURE_STORAGE_TOKEN"),
    *("AZURE_STORAGE_ACCOUNT_KEY", "AZURE_STORAGE_ACCESS_KEY", "AZURE_STORAGE_MASTER_KEY", "AZURE_STORAGE_KEY"),
    *("AZURE_STORAGE_SAS_KEY", "AZURE_STORAGE_SAS_TOKEN"),
)
_SHORTEST_SECRET = 12  # characters; shorter ones are words
_HEADER = re.compile(r"(?i:invalid header value).*", re.DOTALL)
UNFIT_FOR_HEADER = "a credential contains a character that is not allowed in a header"
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]+")  # also those that turn text around


def one_line(text: str) -> str:
    """A text of any origin as one line of 300 characters at most, without headers, signatures and tokens."""
    for value in filter(None, map(os.environ.get, _SECRET_VARIABLES)):
        if len(value) >= _SHORTEST_SECRET:
            text = text.replace(value, HIDDEN)
    text = _HEADER.sub(UNFIT_FOR_HEADER, text)
    text = _SECRET.sub(HIDDEN, redacted(text))
    return " ".join(_CONTROL.sub(" ", text).split())[:300]
