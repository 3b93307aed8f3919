"""Secrets of targets in Secret blocks of Prefect."""

from typing import Any, cast

from prefect.blocks.system import Secret as SecretBlock
from pydantic import SecretStr

from flows.flow_failures import UNREACHABLE
from moderation.actions.targets import Secret
from moderation.errors import SettingsError


def from_block(secret: Secret) -> str:
    """The text in a Secret block. Raises `SettingsError`: there is none, it holds no text, or Prefect does not answer."""
    name = secret.prefect_block or ""
    try:
        block = cast("Any", SecretBlock).load(name, _sync=True)
    except (ValueError, *UNREACHABLE) as error:
        reason = " ".join(str(error).split())[:200]
        raise SettingsError(f"cannot read the {secret}: {reason}") from None
    value = block.get()
    text = value.get_secret_value() if isinstance(value, SecretStr) else value
    if not isinstance(text, str) or not text.strip():
        raise SettingsError(f"the {secret} holds no text")
    return text.strip()
