"""Secrets of targets: found where `actions.yaml` says that they are, held in memory, and kept out of every message."""

import os
from collections.abc import Callable

from moderation.actions.targets import Secret, Target, url_problem
from moderation.common.safe_text import visible
from moderation.errors import SettingsError

Resolve = Callable[[Secret], str]
"""Returns the secret at a place. Raises `SettingsError`."""

HIDDEN = "***"
_SHORTEST_HIDDEN = 6
"""characters; shorter values are words, and hiding them would hide half of a message"""


def from_environment(secret: Secret) -> str:
    """A secret in an environment variable. Raises `SettingsError` for one that is elsewhere, or missing."""
    if secret.env is None:
        raise SettingsError(f"the {secret} can only be read with Prefect")
    value = os.environ.get(secret.env, "")
    if not value.strip():
        raise SettingsError(f"the {secret} is not set")
    return value.strip()


class SecretValues:
    """The secrets of one target."""

    def __init__(self, target: Target, resolve: Resolve) -> None:
        self._values: list[str] = []
        webhook = target.webhook
        self.url = ""
        self.keys: tuple[str, ...] = ()
        self.headers: dict[str, str] = {}
        if webhook is None:
            return
        place = f"target {target.name}"
        keys = [key for key in (webhook.secret, webhook.previous_secret) if key is not None]
        self.keys = tuple(self._found(key, resolve, place) for key in keys)
        self.headers = {name: self._found(value, resolve, place) for name, value in webhook.headers.items()}
        for name, value in self.headers.items():
            if not value.isascii() or not value.isprintable():
                raise SettingsError(f"{place}: the value of the header {name} has characters that a header cannot have")
        if isinstance(webhook.url, str):
            self.url = webhook.url
            return
        self.url = self._found(webhook.url, resolve, place)
        problem = url_problem(self.url)
        if problem:
            raise SettingsError(f"{place}: the {webhook.url} {problem}")

    def hide(self, text: str) -> str:
        """A text from outside as one visible line without these secrets."""
        for value in sorted(self._values, key=len, reverse=True):
            if len(value) >= _SHORTEST_HIDDEN:
                text = text.replace(value, HIDDEN)
        return visible(" ".join(text.split()))

    def _found(self, secret: Secret, resolve: Resolve, place: str) -> str:
        try:
            value = resolve(secret)
        except SettingsError as error:
            raise SettingsError(f"{place}: {error}") from None
        self._values += [value, value.removeprefix("whsec_"), *value.split()]
        return value
