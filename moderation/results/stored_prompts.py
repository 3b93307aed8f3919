"""Prompt embeddings, stored with the results: with them, a policy can re-decide without the model.

They are named by their content and never change. Runs whose policies have the same prompts share one file, and its numbers.
"""

import hashlib
import io
import json
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from moderation.errors import OutputError, StorageError
from moderation.policy.compiled import TextHead
from moderation.storage import Store

_FOLDER = "_prompts"


def prompts_key(fingerprint: str, texts: Sequence[str]) -> str:
    """Where the embeddings of these texts by that model lie, relative to the output."""
    digest = hashlib.sha256(json.dumps(sorted(set(texts))).encode()).hexdigest()[:16]
    return f"{_FOLDER}/{fingerprint}/{digest}.parquet"


def keep_prompts(output: Store, fingerprint: str, head: TextHead) -> TextHead:
    """Store prompt embeddings. Where they are stored already, those count: they are what is returned.

    Raises:
        OutputError: what is stored cannot be read.
        StorageError: the output refuses the file.
    """
    key = prompts_key(fingerprint, list(head.texts))
    try:
        output.put(key, _to_parquet(head), create_only=True)
    except FileExistsError:
        return read_prompts(output, key)
    return head


def read_prompts(output: Store, key: str) -> TextHead:
    """Stored prompt embeddings. Raises `OutputError`."""
    try:
        table = pq.read_table(io.BytesIO(output.get(key)))
        vectors = np.array(table["embedding"].to_pylist(), np.float32)
        settings = json.loads((table.schema.metadata or {})[b"logits"])
        return TextHead(dict(zip(table["text"].to_pylist(), vectors, strict=True)), settings["scale"], settings["bias"])
    except StorageError as error:
        raise OutputError(f"cannot read the prompt embeddings at {output.uri_of(key)}: {error.detail}") from None
    except (pa.ArrowException, OSError, KeyError, ValueError) as error:
        raise OutputError(
            f"the prompt embeddings at {output.uri_of(key)} are damaged ({type(error).__name__}): remove the file, "
            "they are then computed again"
        ) from None


def known_prompts(output: Store, fingerprint: str, texts: Sequence[str]) -> TextHead | None:
    """Those of the texts whose embeddings are stored, from however many files; None if nothing is stored of that model.

    Raises:
        OutputError: a file cannot be read.
    """
    wanted = set(texts)
    exact = prompts_key(fingerprint, texts)
    try:
        if output.exists(exact):
            return read_prompts(output, exact)
        stored = sorted(output.key_of(item.uri) for page in output.list(f"{_FOLDER}/{fingerprint}/") for item in page)
    except StorageError as error:
        raise OutputError(f"cannot read the prompt embeddings in {output.uri}: {error.detail}") from None
    head: TextHead | None = None
    for key in stored:
        other = read_prompts(output, key)
        of_these = {text: vector for text, vector in other.texts.items() if text in wanted}
        head = replace(other, texts={**of_these, **(head.texts if head else {})})
        if len(head.texts) == len(wanted):
            break
    return head


def _to_parquet(head: TextHead) -> bytes:
    vectors = np.stack(list(head.texts.values())).astype(np.float32) if head.texts else np.zeros((0, 1), np.float32)
    table = pa.table(
        {
            "text": pa.array(list(head.texts), pa.string()),
            "embedding": pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), vectors.shape[1]),
        },
        metadata={"logits": json.dumps({"scale": head.logit_scale, "bias": head.logit_bias})},
    )
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd")
    return buffer.getvalue()
