"""What policies name, stored with the results: a run can be replayed when heads, lists and exemplars are others by now.

Files are named by their content and never change. Manifests name those of their run.
"""

import io
import json
from collections.abc import Mapping

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from moderation.errors import OutputError, StorageError
from moderation.lists.hash_list import HashKind, HashList
from moderation.policy.assets import Assets, exemplars_json
from moderation.policy.exemplars import Exemplar, Exemplars
from moderation.policy.schema import DeclaredHead, HeadSource
from moderation.policy_files.head_files import parse_head
from moderation.policy_files.places import AssetError
from moderation.storage import Store

_FOLDER = "_assets"
_EXEMPLARS = "exemplars"


def assets_keys(assets: Assets) -> dict[str, str]:
    """Where each asset lies, relative to the output, by what `Assets.digests` calls it."""
    return {name: f"{_FOLDER}/{name.partition(' ')[0]}-{digest[:32]}" for name, digest in assets.digests.items()}


def keep_assets(output: Store, assets: Assets) -> None:
    """Store what is not stored yet. Raises `StorageError`."""
    for name, key in assets_keys(assets).items():
        if not output.exists(key):
            try:
                output.put(key, _encoded(assets, name), create_only=True)
            except FileExistsError:
                continue


def stored_assets(output: Store, sources: Mapping[str, HeadSource], keys: Mapping[str, str]) -> Assets:
    """The assets of a run.

    Args:
        output: the results.
        sources: what the policy says of each head, by rule id.
        keys: where each asset lies, as the manifest says.

    Raises:
        OutputError: one is gone or damaged.
    """
    heads, lists, exemplars = {}, {}, Assets()
    for name, key in keys.items():
        kind, _, whose = name.partition(" ")
        place = output.uri_of(key)
        try:
            data = output.get(key)
            if kind == "head":
                source = sources.get(whose, key)
                if isinstance(source, DeclaredHead):
                    heads[whose] = parse_head(data, source.file, source.model)
                else:
                    heads[whose] = parse_head(data, source)
            elif kind == "list":
                lists[whose] = _list(data)
            else:
                exemplars = _exemplars(data)
        except StorageError as error:
            raise OutputError(f"cannot read {place}, which a manifest names: {error.detail}") from None
        except (AssetError, pa.ArrowException, OSError, ValueError, KeyError, TypeError) as error:
            raise OutputError(f"{place} is damaged: {' '.join(str(error).split())[:120]}") from None
    found = Assets(heads, exemplars.exemplars, exemplars.background, lists)
    for name, key in assets_keys(found).items():
        if keys.get(name) != key:
            raise OutputError(f"{output.uri_of(keys.get(name, key))} is not what the run used: its content was changed")
    return found


def _encoded(assets: Assets, name: str) -> bytes:
    kind, _, whose = name.partition(" ")
    if kind == "head":
        return assets.heads[whose].data
    if kind == _EXEMPLARS:
        return exemplars_json(assets)
    content = assets.lists[whose]
    hashes = pa.FixedSizeBinaryArray.from_buffers(
        pa.binary(content.kind.size), len(content), [None, pa.py_buffer(np.ascontiguousarray(content.hashes))]
    )
    table = pa.table({"hash": hashes, "label": content.labels}, metadata={"kind": content.kind.value})
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd")
    return buffer.getvalue()


def _list(data: bytes) -> HashList:
    table = pq.read_table(io.BytesIO(data)).combine_chunks()
    kind = HashKind((table.schema.metadata or {})[b"kind"].decode())
    hashes = np.frombuffer(b"".join(table["hash"].to_pylist()), np.uint8).reshape(-1, kind.size)
    labels = table["label"]
    return HashList(kind, hashes, labels.combine_chunks() if isinstance(labels, pa.ChunkedArray) else labels)


def _exemplars(data: bytes) -> Assets:
    content = json.loads(data)
    rules = {rule: Exemplars(_images(found["like"]), _images(found["unlike"])) for rule, found in content["rules"].items()}
    return Assets(exemplars=rules, background=_images(content["background"]))


def _images(found: list[list[str]]) -> tuple[Exemplar, ...]:
    return tuple(Exemplar(str(name), str(digest)) for name, digest in found)
