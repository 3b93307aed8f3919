"""Secrets in places where none may be: `s3://key:secret@bucket`, signed links, SAS tokens. Pure.

A location with one is refused before it gets into a manifest, a log, or a database; messages about it are redacted.
"""

import re

_USER = re.compile(r"^([a-z][a-z0-9+.-]*://)([^/?#]*)@", re.IGNORECASE)
_SIGNED = re.compile(
    r"([?&](?:x-(?:amz|goog)-(?:signature|credential|security-token)|sig|signature|awsaccesskeyid|googleaccessid"
    r"|[a-z_-]*(?:token|password|passwd|secret|api_?key))=)[^&#\s]*",
    re.IGNORECASE,
)
_ANYWHERE = re.compile(r"([a-z][a-z0-9+.-]*://)([^/?#\s'\"]*)@", re.IGNORECASE)
HIDDEN = "***"

SCHEMA_PATTERN = (
    r"^(?![A-Za-z][A-Za-z0-9+.-]*://([^/?#]*@|.*[?&](X-Amz-|X-Goog-|x-amz-|x-goog-|sig=|Signature=|AWSAccessKeyId=)))"
)
"""For a JSON Schema: with it, Prefect refuses parameters with a secret before it stores them."""


def secret_in(location: str) -> str | None:
    """What is secret in a location, in words; None where nothing is. Paths without a scheme hold none."""
    if "://" not in location:
        return None
    if _USER.search(location):
        return "a user or a password before the @"
    return "the signature of a link" if _SIGNED.search(location) else None


def without_secret(location: str) -> str:
    """A location as it is. Raises `ValueError`, which does not repeat it, where it holds a secret."""
    found = secret_in(location)
    if found:
        raise ValueError(
            f"contains {found}, which would be stored as plain text: give only s3://bucket/prefix; keys come from the "
            "environment"
        )
    return location


def redacted(text: str) -> str:
    """`text` without the secrets of the locations in it."""
    return _SIGNED.sub(rf"\1{HIDDEN}", _ANYWHERE.sub(rf"\1{HIDDEN}@", text))
