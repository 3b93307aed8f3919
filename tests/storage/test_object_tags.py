"""Tags of objects in S3, over a real S3 API: added to those that are there, of the version that was decided."""

import os
import time
from pathlib import Path

import boto3
import pytest
from acted import POLICY, quick, target
from published import POLICY_TEXT
from vector_results import Image, publish_vectors

from moderation.actions.acting import act_on
from moderation.actions.standing import standing
from moderation.errors import ErrorCode, StorageError
from moderation.storage import Store


@pytest.fixture
def bucket(s3_endpoint: str) -> str:
    name = f"tags-{os.getpid()}-{time.time_ns()}"
    boto3.client("s3").create_bucket(Bucket=name)
    return name


def tags_of(bucket: str, key: str) -> dict[str, str]:
    found = boto3.client("s3").get_object_tagging(Bucket=bucket, Key=key)["TagSet"]
    return {tag["Key"]: tag["Value"] for tag in found}


def etag_of(bucket: str, key: str) -> str:
    return str(boto3.client("s3").head_object(Bucket=bucket, Key=key)["ETag"].strip('"'))


def put(bucket: str, key: str, body: bytes, tags: str = "") -> str:
    boto3.client("s3").put_object(Bucket=bucket, Key=key, Body=body, Tagging=tags)
    return etag_of(bucket, key)


def test_tags_are_added_and_others_stay(bucket: str) -> None:
    etag = put(bucket, "a b/ü=1.jpg", b"x", "owner=shop&moderation=old")
    store = Store(f"s3://{bucket}")
    store.add_tags("a b/ü=1.jpg", {"moderation": "block", "rule": "arms"}, etag)
    assert tags_of(bucket, "a b/ü=1.jpg") == {"owner": "shop", "moderation": "block", "rule": "arms"}


def test_another_version_is_not_tagged(bucket: str) -> None:
    etag = put(bucket, "a.jpg", b"x")
    put(bucket, "a.jpg", b"another picture")
    with pytest.raises(StorageError) as refused:
        Store(f"s3://{bucket}").add_tags("a.jpg", {"moderation": "block"}, etag)
    assert refused.value.code is ErrorCode.CHANGED
    assert tags_of(bucket, "a.jpg") == {}


def test_more_tags_than_s3_allows_are_an_error_and_nothing_is_lost(bucket: str) -> None:
    etag = put(bucket, "a.jpg", b"x", "&".join(f"t{number}=1" for number in range(10)))
    store = Store(f"s3://{bucket}")
    with pytest.raises(StorageError, match="would have 11 tags, and S3 allows 10"):
        store.add_tags("a.jpg", {"moderation": "block"}, etag)
    store.add_tags("a.jpg", {"t3": "changed"}, etag)
    assert len(tags_of(bucket, "a.jpg")) == 10
    assert tags_of(bucket, "a.jpg")["t3"] == "changed"


def test_where_versions_are_kept_exactly_the_decided_one_is_tagged(bucket: str) -> None:
    s3 = boto3.client("s3")
    s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    etag = put(bucket, "a.jpg", b"x")
    version = s3.head_object(Bucket=bucket, Key="a.jpg")["VersionId"]
    Store(f"s3://{bucket}").add_tags("a.jpg", {"moderation": "block"}, etag)
    put(bucket, "a.jpg", b"y")
    assert s3.get_object_tagging(Bucket=bucket, Key="a.jpg", VersionId=version)["TagSet"] == [
        {"Key": "moderation", "Value": "block"}
    ]
    assert tags_of(bucket, "a.jpg") == {}


def test_only_s3_has_tags(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"x")
    with pytest.raises(StorageError, match=r"only objects in s3:// have tags"):
        Store(str(tmp_path)).add_tags("a.jpg", {"moderation": "block"})


def test_decisions_become_tags_and_what_cannot_be_tagged_is_shown(bucket: str, tmp_path: Path) -> None:
    output = Store(str(tmp_path / "results"))
    uris = {name: f"s3://{bucket}/{name}.jpg" for name in ("gun", "changed", "gone", "full", "face")}
    full = "&".join(f"t{number}=1" for number in range(10))
    for name in ("gun", "changed", "full", "face"):
        put(bucket, f"{name}.jpg", name.encode(), {"full": full, "gun": "owner=shop"}.get(name, ""))
    images = [
        *(Image(uris[name], [[0.875]]) for name in ("gun", "changed", "gone", "full")),
        Image(uris["face"], [[0.0]]),
        Image("file:///elsewhere.jpg", [[0.875]]),
    ]
    etags = {uris[name]: etag_of(bucket, f"{name}.jpg") for name in ("gun", "changed", "full", "face")}
    publish_vectors(output, images, POLICY, POLICY_TEXT, etags=etags)
    put(bucket, "changed.jpg", b"other bytes")
    chosen = target(
        "{name: tags, actions: [block], s3_tags: {tags: {moderation: '{action}', moderation-rule: '{rule}/{category}'}}}"
    )
    acted = act_on(output, chosen, quick())
    assert (acted.delivered, acted.parked) == (1, 4)
    assert tags_of(bucket, "gun.jpg") == {"owner": "shop", "moderation": "block", "moderation-rule": "firearms/weapons"}
    assert tags_of(bucket, "changed.jpg") == tags_of(bucket, "face.jpg") == {}
    reasons = {refused.uris[0]: refused.reason for refused in standing(output, chosen).refused}
    assert "would have 12 tags" in reasons[uris["full"]]
    assert "another one now" in reasons[uris["changed"]]
    assert "no such object" in reasons[uris["gone"]]
    assert "only objects in s3://" in reasons["file:///elsewhere.jpg"]
