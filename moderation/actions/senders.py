"""Sends chains of deliveries to a target, of whichever kind it is."""

import asyncio
import hashlib
import re
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import groupby
from typing import Protocol

from moderation.actions.deliveries import Delivery, Open, Outcome, Result, now
from moderation.actions.dispatch import Answer, Chain, Dispatch, Patience
from moderation.actions.secret_values import Resolve, SecretValues
from moderation.actions.tag_values import tag_values
from moderation.actions.targets import JsonLines, S3Tags, Target, Webhook
from moderation.actions.webhook import WebhookSender
from moderation.errors import ErrorCode, OutputError, SettingsError, StorageError
from moderation.storage import Store
from moderation.storage.retrying import TransientError

Check = Callable[[], None]


class Sender(Protocol):
    """Sends to one target."""

    def send(self, chains: Iterable[Chain], outcomes: list[Outcome], check: Check) -> str:
        """Send them, each chain in its order. Returns why the target was given up, or "".

        Args:
            chains: deliveries by item.
            outcomes: filled while sending: what is not in it in the end was not attempted, or not to its end.
            check: raises if this process may not send any more.
        """
        ...


def open_sender(target: Target, resolve: Resolve, patience: Patience | None = None) -> Sender:
    """The sender for a target. Raises `SettingsError`: a secret is missing, or a place cannot be used."""
    secrets = SecretValues(target, resolve)
    if target.webhook is not None:
        return _Webhooks(target.webhook, secrets, patience or Patience(attempts=target.webhook.attempts))
    if target.s3_tags is not None:
        return _Tags(target.s3_tags, patience or Patience())
    if target.jsonl is None:
        raise SettingsError(f"target {target.name} has no receiver")
    return _Files(target.jsonl)


class _Webhooks:
    def __init__(self, webhook: Webhook, secrets: SecretValues, patience: Patience) -> None:
        self._connections, self._patience = webhook.connections, patience
        self._sender = WebhookSender(webhook, secrets)  # what is wrong with it is known before anything is written

    def send(self, chains: Iterable[Chain], outcomes: list[Outcome], check: Check) -> str:
        async def sent() -> str:
            async with self._sender as sender:
                return await Dispatch(sender.attempt, self._connections, self._patience, check, outcomes).send(chains)

        return asyncio.run(sent())


class _Tags:
    def __init__(self, tags: S3Tags, patience: Patience) -> None:
        self._tags, self._patience = tags, patience
        self._stores: dict[str, Store] = {}

    def send(self, chains: Iterable[Chain], outcomes: list[Outcome], check: Check) -> str:
        with ThreadPoolExecutor(self._tags.connections, thread_name_prefix="tags") as threads:

            async def attempt(delivery: Delivery) -> Answer:
                return await asyncio.get_running_loop().run_in_executor(threads, partial(self._tag, delivery))

            async def sent() -> str:
                return await Dispatch(attempt, self._tags.connections, self._patience, check, outcomes).send(chains)

            return asyncio.run(sent())

    def _tag(self, delivery: Delivery) -> Answer:
        bucket = re.match(r"[a-zA-Z0-9]+://[^/]*", delivery.uri)
        if bucket is None or not delivery.uri.startswith("s3://"):
            return Answer(Result.PARKED, "only objects in s3:// have tags")
        try:
            store = self._stores.get(bucket[0]) or self._stores.setdefault(bucket[0], Store(bucket[0]))
            store.add_tags(
                store.key_of(delivery.uri), tag_values(self._tags.tags, delivery.payload), delivery.etag, patience=0.0
            )
        except TransientError as error:
            return Answer(Result.FAILED, error.detail)
        except StorageError as error:
            gone = error.code in (ErrorCode.NOT_FOUND, ErrorCode.CHANGED)
            return Answer(Result.PARKED, f"{error.detail}; a later decision sends its own action" if gone else error.detail)
        return Answer(Result.DELIVERED)


class _Files:
    def __init__(self, lines: JsonLines) -> None:
        try:
            self._store = Store(lines.folder)
        except StorageError as error:
            raise SettingsError(f"cannot write JSON lines to {lines.folder!r}: {error.detail}") from None

    def send(self, chains: Iterable[Chain], outcomes: list[Outcome], check: Check) -> str:
        every = sorted((one for chain in chains for one in chain), key=_number)
        for number, batch in groupby(every, key=_number):
            deliveries = [one.delivery for one in batch]
            text = "".join(f"{delivery.payload}\n" for delivery in deliveries)
            # The same name for the same deliveries: written again after a crash, it is the same file.
            digest = hashlib.sha256("\n".join(delivery.key for delivery in deliveries).encode()).hexdigest()[:12]
            check()
            try:
                self._store.put(f"actions-{number:012d}-{digest}.jsonl", text.encode(), create_only=True)
            except StorageError as error:
                return f"cannot write to {self._store.uri}: {error.detail}"
            except FileExistsError:
                raise OutputError(f"somebody else changed files in {self._store.uri}: give the target its own folder") from None
            outcomes += [Outcome(key=delivery.key, result=Result.DELIVERED, at=now()) for delivery in deliveries]
        return ""


def _number(one: Open) -> int:
    return one.number
