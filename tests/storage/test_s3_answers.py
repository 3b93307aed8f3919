"""What S3, and stores that speak its API, may answer and be set to: tags, archives, refusals, profiles, access points."""

import json
import os
import stat
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import boto3
import pytest
from faulty_proxy import Answer, FaultyProxy, s3_error
from listing_server import MODIFIED, Bucket, ListingServer
from obstore.store import AzureStore, MemoryStore

from moderation.errors import ErrorCode, StorageError
from moderation.storage import Store
from moderation.storage import store as stores
from moderation.storage.answers import failed, one_line
from moderation.storage.cloud import ObstoreBackend
from moderation.storage.entity_tags import condition, entity_tag, is_same, made_tag

KEY_ID, SECRET, TOKEN = "AKIAEXAMPLEEXAMPLE", "a-secret-that-must-not-leak", "a-token-that-must-not-leak"
NAMES = ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_NO_SIGN_REQUEST", "AWS_SKIP_SIGNATURE", "AWS_REQUEST_PAYER")


@pytest.fixture(autouse=True)
def aws(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
    for name, value in {"ACCESS_KEY_ID": KEY_ID, "SECRET_ACCESS_KEY": SECRET, "REGION": "us-east-1"}.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    for name in ("CONFIG_FILE", "SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(f"AWS_{name}", str(tmp_path / name))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setattr("moderation.storage.retrying.PATIENCE", 0.2)
    monkeypatch.setattr("moderation.storage.store.PROBE_PATIENCE", 0.2)
    stores._bucket.cache_clear()
    yield
    stores._bucket.cache_clear()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[ListingServer]:
    with ListingServer(Bucket({"in/a.jpg": b"12345", "in/b//c.jpg": b"123456"})) as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL", server.endpoint)
        yield server


@pytest.fixture
def proxy(monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultyProxy]:
    with FaultyProxy("http://127.0.0.1:1", seed=1) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
        yield proxy


def failure(call: object, *arguments: object) -> str:
    with pytest.raises(StorageError) as caught:
        call(*arguments)  # type: ignore[operator]
    told = str(caught.value)
    assert "\n" not in told
    assert not any(secret in told for secret in (KEY_ID, SECRET, TOKEN, "AWS4-HMAC", "Signature="))
    return told


# --- entity tags -----------------------------------------------------------------------------------------------------------

TAGS = {
    "strong": lambda opaque: f'"{opaque}"',
    "in parts": lambda opaque: f'"{opaque}-2"',
    "unquoted": lambda opaque: opaque,
    "weak": lambda opaque: f'W/"{opaque}"',
    "weak and unquoted": lambda opaque: f"W/{opaque}",
    "none": lambda _: None,
}


@pytest.mark.parametrize("kind", TAGS)
def test_objects_are_read_at_their_version_whatever_tags_a_store_writes(server: ListingServer, kind: str) -> None:
    server.bucket.etag = TAGS[kind]
    store = Store("s3://shop/in")
    items = [item for page in store.list() for item in page]
    contents = [b"12345", b"123456"]
    assert [store.read(item) for item in items] == contents
    assert [store.head(store.key_of(item.uri)) for item in items] == items
    for item in items:
        with store.open(store.key_of(item.uri), item.etag) as file:
            file.seek(1)
            assert file.read(2) == b"23"
    assert [item.etag for item in items] == [entity_tag(item.etag) for item in items]
    server.bucket.objects = {key: b"other" + content for key, content in server.bucket.objects.items()}
    if kind == "none":  # its size tells
        assert all(failure(store.open, store.key_of(item.uri), item.etag).startswith("changed: ") for item in items)
        return
    for item in items:
        assert failure(store.read, item).startswith("changed: the object changed after listing")


@pytest.mark.parametrize("listed", TAGS)
@pytest.mark.parametrize("read", TAGS)
def test_tags_of_a_listing_and_of_an_answer_may_be_written_in_two_ways(server: ListingServer, listed: str, read: str) -> None:
    if "in parts" in (listed, read):
        return
    server.bucket.etag = TAGS[listed]
    store = Store("s3://shop/in")
    items = [item for page in store.list() for item in page]
    server.bucket.etag = TAGS[read]
    assert [store.read(item) for item in items] == [b"12345", b"123456"]


@pytest.mark.parametrize("key", ["a.jpg", "b//c.jpg"])
def test_tags_of_a_manifest_that_no_header_can_hold_are_another_version(server: ListingServer, key: str) -> None:
    store = Store("s3://shop/in")
    for tag in ("a\nb", "\0", "é", 'a"b', "x" * 70_000, " a", "\u65e5"):
        assert failure(store.get, key, tag).startswith("changed: ")


def test_objects_that_are_listed_without_a_tag_are_compared_by_size_and_time(server: ListingServer) -> None:
    server.bucket.etag = TAGS["none"]
    store = Store("s3://shop/in")
    [items] = store.list()
    server.bucket.etag = TAGS["strong"]
    assert [store.read(item) for item in items] == [b"12345", b"123456"]
    server.bucket.objects = {key: b"other" + content for key, content in server.bucket.objects.items()}
    assert all(failure(store.read, item).startswith("changed: the object changed after listing") for item in items)


def test_tags_outside_ascii_are_read(server: ListingServer) -> None:
    server.bucket.etag = lambda opaque: f'"caf\xe9-{opaque}"'
    store = Store("s3://shop/in")
    items = [item for page in store.list() for item in page]
    assert [store.read(item) for item in items] == [b"12345", b"123456"]
    server.bucket.objects = {key: content[::-1] for key, content in server.bucket.objects.items()}
    assert all(failure(store.read, item).startswith("changed: ") for item in items)


def test_tags_are_parsed_in_one_place() -> None:
    assert [entity_tag(text) for text in ('"a"', "a", 'W/"a"', "w/a", " \"a-2\" ", None, "", '""', 'W/""')] == [
        "a", "a", 'W/"a"', 'W/"a"', "a-2", "", "", "", ""
    ]  # fmt: skip
    assert [condition(tag) for tag in ("a", 'W/"a"', made_tag(5, MODIFIED), "", None)] == ['"a"', None, None, None, None]
    assert is_same("a", 'W/"a"')
    assert not is_same("a", 'W/"b"')
    later = datetime(2026, 11, 21, 3, 0, 1, tzinfo=UTC)
    assert len({made_tag(5, MODIFIED), made_tag(6, MODIFIED), made_tag(5, later)}) == 3
    assert made_tag(5, MODIFIED.replace(microsecond=999_000)) == made_tag(5, MODIFIED) == entity_tag(made_tag(5, MODIFIED))


# --- refusals --------------------------------------------------------------------------------------------------------------


def test_archived_objects_say_what_to_do(s3_endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_endpoint)
    client = boto3.client("s3", endpoint_url=s3_endpoint)
    client.create_bucket(Bucket="archives")
    for storage in ("GLACIER", "DEEP_ARCHIVE", "GLACIER_IR", "STANDARD_IA"):
        for key in (f"{storage}.jpg", f"{storage}//x.jpg"):
            client.put_object(Bucket="archives", Key=key, Body=b"x", StorageClass=storage)
    store = Store("s3://archives")
    for item in (item for page in store.list() for item in page):
        if item.uri.split("/")[3].startswith(("GLACIER.", "DEEP_ARCHIVE")) or item.uri.endswith("/GLACIER//x.jpg"):
            told = failure(store.read, item)
            assert told.startswith("archived: the object is archived and cannot be read: restore it, or skip it"), told
            assert told.endswith("(InvalidObjectState)")
        else:
            assert store.read(item) == b"x"
    assert not ErrorCode.ARCHIVED.retryable
    assert failed(409, "BlobArchived", "x").code is ErrorCode.ARCHIVED


def test_the_stores_own_sentence_is_always_shown(proxy: FaultyProxy) -> None:
    sentence = (
        "User: arn:aws:sts::123456789012:assumed-role/x is not authorized to perform: kms:Decrypt on resource: "
        "arn:aws:kms:us-east-1:123456789012:key/1 because no identity-based policy allows the kms:Decrypt action"
    )
    proxy.rule = lambda *_: s3_error(403, "AccessDenied", sentence)
    store = Store("s3://shop")
    for call in (store.check_readable, lambda: store.get("a"), lambda: store.get("a//b"), lambda: store.put("a", b"x")):
        told = failure(call)
        assert told.startswith(
            "access_denied: no permission: these credentials need kms:Decrypt; the store says: User: arn:aws"
        )
        assert told.endswith("allows the kms:Decrypt action (AccessDenied)")
    proxy.rule = lambda *_: s3_error(403, "SignatureDoesNotMatch", "The request signature we calculated does not match")
    assert "the store says: The request signature we calculated does not match (S" in failure(store.get, "a")


def test_no_header_signature_or_secret_of_an_answer_is_shown(proxy: FaultyProxy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SESSION_TOKEN", TOKEN)
    store = Store("s3://shop")
    for echo in ("authorization", "x-amz-security-token"):
        proxy.rule = lambda method, path, headers, body: s3_error(403, "AccessDenied", f"bad: {headers[echo]}\r\nx: y")  # noqa: B023
        for call in (store.check_readable, lambda: store.get("a"), lambda: store.get("a//b")):
            assert "the store says: bad: *" in failure(call)
    for text in (
        f"Authorization: AWS4-HMAC-SHA256 Credential={KEY_ID}/20261121, SignedHeaders=host, Signature=abc",
        f"Invalid header value b'AWS4-HMAC-SHA256 Credential={KEY_ID}/1, Signature=0f'",
        f"GET http://u:{SECRET}@host/a?X-Amz-Signature={TOKEN}: no",
        f"x-amz-security-token: {TOKEN}",
    ):
        assert not any(secret in one_line(text) for secret in (KEY_ID, SECRET, TOKEN, "Signature="))
    assert one_line("a\x1b[31m\u2028b\n c") == "a [31m b c"


# --- profiles and keys -----------------------------------------------------------------------------------------------------


def test_broken_profiles_are_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    loud = tmp_path / "loud"
    loud.write_text(f'#!/bin/sh\necho \'{{"Version": 1, "SecretAccessKey": "{SECRET}"\'\n')
    loud.chmod(loud.stat().st_mode | stat.S_IXUSR)
    dying = tmp_path / "dying"
    dying.write_text(f"#!/bin/sh\necho {SECRET} >&2\nexit 1\n")
    dying.chmod(dying.stat().st_mode | stat.S_IXUSR)
    kinds = {
        "missing": ("credential_process = /no/such/program --x", "/no/such/program: No such file or directory"),
        "folder": (f"credential_process = {tmp_path}", "Permission denied"),
        "quote": ('credential_process = sh -c "exit', "(ValueError)"),
        "garbled": (f"credential_process = {loud}", "(JSONDecodeError)"),
        "list": ("credential_process = echo []", "(AttributeError)"),
        "nothing": ("credential_process = true", "(JSONDecodeError)"),
        "fails": ("credential_process = false", "the profile's credential_process failed: run it yourself to see why"),
        "loud": (f"credential_process = {dying}", "the profile's credential_process failed: run it yourself to see why"),
        "version": ("""credential_process = echo '{"Version": 2}'""", "Unsupported version"),
        "source": ("role_arn = arn:aws:iam::123456789012:role/x\nsource_profile = gone", "gone"),
        "circle": ("role_arn = arn:aws:iam::123456789012:role/x\nsource_profile = circle", "circle"),
        "s3": ("s3 = nonsense\ncredential_process = /no/such/program", "No such file"),
        "none": ("region = eu-west-3", "no AWS credentials found: set AWS_PROFILE"),
    }
    (tmp_path / "CONFIG_FILE").write_text("".join(f"[profile {name}]\n{text}\n" for name, (text, _) in kinds.items()))
    for name, (_, words) in kinds.items():
        monkeypatch.setenv("AWS_PROFILE", name)
        stores._bucket.cache_clear()
        told = failure(Store, "s3://shop")
        assert words in told, told
    monkeypatch.setenv("AWS_PROFILE", "no such profile")
    stores._bucket.cache_clear()
    assert "no such profile" in failure(Store, "s3://shop")
    monkeypatch.delenv("AWS_PROFILE")
    monkeypatch.setenv("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/x")
    monkeypatch.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", str(tmp_path / "no-token"))
    stores._bucket.cache_clear()
    store = Store("s3://shop")
    for call in (store.check_readable, lambda: store.get("a"), lambda: store.get("a//b"), lambda: store.put("a", b"x")):
        assert "no-token" in failure(call)


@pytest.mark.parametrize("name", ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"])
@pytest.mark.parametrize(
    ("mark", "what"), [("\n", "a line break"), ("\t", "a tab"), (" ", "a space"), ("é", "an invalid character")]
)
def test_keys_that_cannot_stand_in_a_header_are_named(monkeypatch: pytest.MonkeyPatch, name: str, mark: str, what: str) -> None:
    monkeypatch.setenv(name, f"{TOKEN}{mark}{SECRET}")
    told = failure(Store, "s3://shop")
    assert told.startswith("access_denied: the AWS ")
    assert what in told
    assert "(from: env)" in told


def test_keys_with_a_line_break_that_a_program_gives_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    gives = {"Version": 1, "AccessKeyId": f"{KEY_ID}\n", "SecretAccessKey": SECRET, "Expiration": "2099-01-01T00:00:00Z"}
    (tmp_path / "keys.json").write_text(json.dumps(gives))
    (tmp_path / "CONFIG_FILE").write_text(f"[default]\ncredential_process = cat {tmp_path / 'keys.json'}\n")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    store = Store("s3://shop")
    for call in (store.check_readable, lambda: store.get("a"), lambda: store.put("a", b"x"), lambda: store.get("a//b")):
        assert "credential" in failure(call) or "access key" in failure(call)


# --- settings --------------------------------------------------------------------------------------------------------------


def seen(proxy: FaultyProxy) -> list[dict[str, str]]:
    asked: list[dict[str, str]] = []

    def rule(method: str, path: str, headers: dict[str, str], body: bytes) -> object:
        asked.append({**headers, "asked": f"{method} {path.partition('?')[0]}"})
        return s3_error(403, "AccessDenied", "no")

    proxy.rule = rule  # type: ignore[assignment]
    return asked


def use(store: Store) -> None:
    for call in (store.check_readable, lambda: store.get("a"), lambda: store.get("a//b"), lambda: store.head("a")):
        failure(call)


@pytest.mark.parametrize("name", ["AWS_NO_SIGN_REQUEST", "AWS_SKIP_SIGNATURE"])
def test_public_buckets_are_read_without_credentials(proxy: FaultyProxy, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    for key in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(key)
    asked = seen(proxy)
    assert "AWS_NO_SIGN_REQUEST=true" in failure(Store, "s3://shop")
    monkeypatch.setenv(name, "YES")
    use(Store("s3://shop"))
    assert len(asked) >= 4
    assert not any("authorization" in headers for headers in asked)
    monkeypatch.setenv(name, "maybe")
    stores._bucket.cache_clear()
    assert f"{name} is 'maybe': set it to true or false" in failure(Store, "s3://shop")


@pytest.mark.parametrize("value", ["requester", "true"])
def test_readers_pay_where_they_say_so(proxy: FaultyProxy, monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    asked = seen(proxy)
    monkeypatch.setenv("AWS_REQUEST_PAYER", value)
    use(Store("s3://shop"))
    assert len(asked) >= 4
    for headers in asked:
        assert headers["x-amz-request-payer"] == "requester"
        assert "x-amz-request-payer" in headers["authorization"]
    monkeypatch.delenv("AWS_REQUEST_PAYER")
    stores._bucket.cache_clear()
    asked.clear()
    use(Store("s3://shop"))
    assert not any("x-amz-request-payer" in headers for headers in asked)


@pytest.mark.parametrize("slash", ["/", ":"])
def test_access_points_are_buckets_by_their_arn(proxy: FaultyProxy, monkeypatch: pytest.MonkeyPatch, slash: str) -> None:
    asked = seen(proxy)
    for name, value in {"HTTP_PROXY": proxy.endpoint, "http_proxy": proxy.endpoint, "NO_PROXY": "", "no_proxy": ""}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://store.test")
    arn = f"arn:aws:s3:eu-west-3:123456789012:accesspoint{slash}photos"
    store = Store(f"s3://{arn}/up/loads")
    assert store.uri == f"s3://{arn}/up/loads"
    assert Store.locate(f"{store.uri}/a.jpg")[1] == "up/loads/a.jpg"
    assert store.key_of(f"{store.uri}/a.jpg") == "a.jpg"
    use(store)
    assert {headers["host"] for headers in asked} == {"photos-123456789012.store.test"}
    assert {headers["asked"].split("test", 1)[-1] for headers in asked} >= {"/up/loads/a", "/up/loads/a//b"}
    assert all("/eu-west-3/s3/" in headers["authorization"] for headers in asked)


@pytest.mark.parametrize(
    "arn",
    [
        "arn:aws:s3::123456789012:accesspoint/name.mrap",
        "arn:aws:s3-object-lambda:eu-west-3:123456789012:accesspoint/name",
        "arn:aws:s3-outposts:eu-west-3:123456789012:outpost/op-1/accesspoint/name",
        "arn:aws:s3:::shop",
    ],
)
def test_other_arns_are_refused_in_one_line(arn: str) -> None:
    assert failure(Store, f"s3://{arn}/x").startswith("not_found: cannot use 'arn:aws:s3")
    assert os.environ["AWS_ACCESS_KEY_ID"] == KEY_ID


def test_keys_of_kms_redirects_and_versions_of_http_are_not_tried_again(proxy: FaultyProxy) -> None:
    store = Store("s3://shop")
    answers = {
        "access_denied: the KMS key that the object is encrypted with cannot be used": s3_error(400, "KMS.DisabledException"),
        "access_denied: the bucket is in another region": Answer(307),
        "storage_error: ": Answer(505),
    }
    for told, answer in answers.items():
        proxy.rule = lambda *_, answer=answer: answer
        before = proxy.requests
        assert failure(store.get, "a").startswith(told)
        assert failure(store.get, "a//b").startswith(told)
        assert proxy.requests - before <= 4  # obstore asks three times where the status is 505
    proxy.rule = lambda *_: s3_error(403, "AccessDenied", "seen \u202egpj.exe\u2066 there")
    assert "seen gpj.exe there" in failure(store.get, "a")


def test_azures_archive_has_the_same_code(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith(("AZURE_", "AZURITE_"))]:
        monkeypatch.delenv(name)  # of an emulator that other tests of this process use
    body = b"<?xml version='1.0'?><Error><Code>BlobArchived</Code><Message>This operation is not permitted on an archived blob."
    answer = Answer(409, body + b"\nRequestId:1</Message></Error>", {"x-ms-error-code": "BlobArchived"})
    with FaultyProxy("http://127.0.0.1:1", seed=1) as proxy:
        proxy.rule = lambda *_: answer
        config = {"account_name": "shop", "account_key": "aGVsbG8=", "endpoint": proxy.endpoint}
        azure = AzureStore("c", config=config, client_options={"allow_http": True})  # type: ignore[arg-type]
        told = failure(ObstoreBackend("az://c", azure).get, "a.jpg")
    assert told.startswith("archived: the object is archived and cannot be read: restore it, or skip it with `--exclude`")
    assert "This operation is not permitted on an archived blob" in told


def test_weak_tags_of_other_stores_are_compared_after_reading() -> None:
    memory = ObstoreBackend("memory://tags", MemoryStore())
    memory.put("a", b"x")
    tag = memory.head("a").etag
    assert memory.get("a", f'W/"{entity_tag(tag)}"') == memory.get("a", tag) == b"x"
    assert failure(memory.get, "a", 'W/"another"').startswith("changed: ")


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("2026-11-21T03:00:00.123Z", "2026-11-21T03:00:00.123+00:00"),
        ("2026-11-21T03:00:00Z", "2026-11-21T03:00:00+00:00"),
        ("2026-11-21T04:00:00+01:00", "2026-11-21T03:00:00+00:00"),
        ("Sat, 21 Nov 2026 03:00:00 GMT", "2026-11-21T03:00:00+00:00"),
        ("20261121T030000Z", "2026-11-21T03:00:00+00:00"),
        ("1795230000", "2026-11-21T03:00:00+00:00"),
    ],
)
def test_times_of_a_listing_are_read_however_a_store_writes_them(server: ListingServer, written: str, meant: str) -> None:
    server.bucket.change = lambda xml: xml.replace(f"{MODIFIED:%Y-%m-%dT%H:%M:%S}.000Z", written)
    [items] = Store("s3://shop/in").list()
    assert {item.last_modified for item in items} == {datetime.fromisoformat(meant)}
    assert items[0].last_modified.tzinfo is UTC
