"""Credentials for S3: from where every AWS tool takes them, tried before they are used, or none for public buckets."""

import os
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

from botocore import exceptions as aws
from botocore.credentials import Credentials, ReadOnlyCredentials
from obstore.auth.boto3 import Boto3CredentialProvider

from moderation.errors import ErrorCode, StorageError
from moderation.storage.answers import one_line

if TYPE_CHECKING:
    import boto3
    from obstore.store import S3Credential

_UNUSABLE = re.compile(r"[^\x21-\x7e]")
_YES, _NO = ("1", "true", "yes", "on", "requester"), ("", "0", "false", "no", "off")


class CheckedCredentialProvider(Boto3CredentialProvider):
    """For obstore, which ends in a panic where a key holds a line break."""

    def __call__(self) -> "S3Credential":
        """What obstore signs with. Raises `StorageError`."""
        found = super().__call__()
        check_text(found["access_key_id"], found["secret_access_key"], found.get("token"), "the profile or the environment")
        return found


def check_credentials(session: "boto3.Session") -> None:
    """Raise a `StorageError` where there are no credentials, or what names them is broken. Keys that last are looked at."""
    found = _found(session)
    if found is None:
        raise StorageError(
            ErrorCode.ACCESS_DENIED,
            "no AWS credentials found: set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY; "
            "for a public bucket, AWS_NO_SIGN_REQUEST=true",
        )
    if type(found) is Credentials:  # others may have to be fetched first
        frozen: ReadOnlyCredentials = found.get_frozen_credentials()
        check_text(frozen.access_key, frozen.secret_key, frozen.token, found.method)


def check_text(access_key: str | None, secret: str | None, token: str | None, origin: str | None) -> None:
    """Raise a `StorageError`, which repeats none of them, for keys that cannot stand in a header."""
    for name, value in {"access key ID": access_key, "secret access key": secret, "session token": token}.items():
        wrong = _UNUSABLE.search(value or "")
        if wrong:
            kinds = {"\n": "a line break", "\r": "a line break", " ": "a space", "\t": "a tab"}
            what = kinds.get(wrong[0], "an invalid character")
            raise StorageError(
                ErrorCode.ACCESS_DENIED, f"the AWS {name} (from: {origin or 'unknown'}) contains {what}: remove it"
            )


def is_set(name: str, environment: Mapping[str, str] = os.environ) -> bool:
    """Whether a variable that says yes or no says yes. Raises `StorageError` where it says neither."""
    value = environment.get(name, "").strip().lower()
    if value in _YES:
        return True
    if value in _NO:
        return False
    raise StorageError(ErrorCode.STORAGE_ERROR, f"{name} is {value!r}: set it to true or false, or unset it")


def _found(session: "boto3.Session") -> Credentials | None:
    try:
        return session.get_credentials()
    except Exception as error:  # noqa: BLE001 - programs and files of the user's say what they like
        raise broken_credentials(error) from None


def _is_words_of_a_program(error: Exception) -> bool:
    """Whether an error holds what a credential_process wrote, which may be the keys."""
    if not isinstance(error, aws.CredentialRetrievalError) or error.kwargs.get("provider") != "custom-process":
        return False
    return not str(error.kwargs.get("error_msg")).startswith(("Unsupported version", "Missing required key"))


def broken_credentials(error: Exception) -> StorageError:
    """The error for a profile, or for something that it names, that cannot be used."""
    if isinstance(error, OSError) and error.filename:
        reason = f"{error.filename}: {error.strerror}"
    elif _is_words_of_a_program(error):
        reason = "the profile's credential_process failed: run it yourself to see why"
    elif isinstance(error, aws.BotoCoreError | OSError):
        reason = one_line(str(error))
    else:  # its text may be what a program wrote: the keys
        reason = f"the output of the profile's credential_process or file is not what AWS tools expect ({type(error).__name__})"
    return StorageError(
        ErrorCode.ACCESS_DENIED,
        f"the AWS credentials cannot be read: {reason}: fix the profile that AWS_PROFILE names, or name another",
    )
