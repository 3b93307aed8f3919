"""Signatures of messages, as the Standard Webhooks specification (1.0) defines them: HMAC-SHA256 with a timestamp. Pure."""

import base64
import binascii
import hashlib
import hmac

from moderation.errors import SettingsError

PREFIX = "whsec_"
SHORTEST = 24
"""Bytes of a key."""


def key_bytes(secret: str) -> bytes:
    """The key of a secret: after `whsec_`, its base64, else its UTF-8. Raises `SettingsError`, which does not repeat it."""
    key = secret.encode()
    if secret.startswith(PREFIX):
        try:
            key = base64.b64decode(secret.removeprefix(PREFIX), validate=True)
        except binascii.Error:
            raise SettingsError("a signing key that begins with whsec_ should continue with base64") from None
    if len(key) < SHORTEST:
        raise SettingsError(f"a signing key has {len(key)} bytes, and needs {SHORTEST}: `openssl rand -base64 32` makes one")
    return key


def signature(keys: tuple[bytes, ...], message_id: str, timestamp: int, body: bytes) -> str:
    """The header `webhook-signature`: one signature for each key, with spaces between.

    Args:
        keys: as of `key_bytes`; while keys change, two.
        message_id: the header `webhook-id`.
        timestamp: the header `webhook-timestamp`, seconds since 1970.
        body: exactly as sent.
    """
    signed = f"{message_id}.{timestamp}.".encode() + body
    return " ".join(f"v1,{base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode()}" for key in keys)
