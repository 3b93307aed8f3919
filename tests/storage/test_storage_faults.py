"""`Store` over S3 when the network and the store misbehave: through a faulty proxy, in front of a real S3 API."""

import gzip
import os
import pickle
import random
import ssl
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import boto3
import pytest
from botocore.exceptions import CredentialRetrievalError, SSOTokenLoadError
from certificates import make_authority
from faulty_proxy import FAULTS, Answer, FaultyProxy, once, s3_error

from moderation.errors import ErrorCode, StorageError
from moderation.storage import Store
from moderation.storage.retrying import TransientError, retried
from moderation.storage.store import _bucket

BUCKET = "storage-faults"
SECRET = "a-secret-that-must-not-leak"


@pytest.fixture(scope="module")
def direct(s3_endpoint):
    """A client that goes past the proxy."""
    client = boto3.client("s3", endpoint_url=s3_endpoint)
    client.create_bucket(Bucket=BUCKET)
    return client


@pytest.fixture(scope="module")
def one_proxy(s3_endpoint, direct):
    _bucket.cache_clear()
    with FaultyProxy(s3_endpoint, seed=1) as proxy:
        yield proxy
    _bucket.cache_clear()


@pytest.fixture
def proxy(one_proxy, monkeypatch):
    """A proxy without faults so far; AWS_* point at it."""
    one_proxy.begin_again(seed=1)
    monkeypatch.setenv("AWS_ENDPOINT_URL", one_proxy.endpoint)
    return one_proxy


@pytest.fixture
def other_settings(one_proxy):
    """For tests that change what AWS_* say: no connections from before, none left behind."""
    _bucket.cache_clear()
    yield
    _bucket.cache_clear()


@pytest.fixture
def store(proxy):
    return Store(f"s3://{BUCKET}/{uuid.uuid4().hex}")


@pytest.fixture
def impatient(monkeypatch):
    monkeypatch.setattr("moderation.storage.retrying.PATIENCE", 0.5)
    monkeypatch.setattr("moderation.storage.store.PROBE_PATIENCE", 0.5)


def keys(store, *args, **kwargs):
    return [store.key_of(item.uri) for page in store.list(*args, **kwargs) for item in page]


def failure(call, *args, **kwargs):
    with pytest.raises(StorageError) as caught:
        call(*args, **kwargs)
    told = str(caught.value)
    assert "\n" not in told
    assert SECRET not in told
    assert type(pickle.loads(pickle.dumps(caught.value))) is type(caught.value)  # noqa: S301 - our own bytes
    return told


# --- random faults ---------------------------------------------------------------------------------------------------------


def test_everything_comes_out_right_through_faults(store, proxy):
    proxy.rate = 0.15
    drawn = random.Random(1)
    contents = {f"{i:03} é.bin": drawn.randbytes(drawn.choice([0, 1, 100, 40_000])) for i in range(200)}
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda key: store.put(f"in/{key}", contents[key]), contents))
        items = [item for page in store.list("in/") for item in page]
        assert [store.key_of(item.uri) for item in items] == [f"in/{key}" for key in sorted(contents)]
        assert list(threads.map(store.read, items)) == [contents[key] for key in sorted(contents)]
        half = sorted(contents)[:100]
        list(threads.map(lambda key: store.copy(f"in/{key}", f"out/{key}"), half))
        list(threads.map(lambda key: store.delete(f"in/{key}"), half))
    assert keys(store, "out/") == [f"out/{key}" for key in half]
    assert keys(store, "in/") == [f"in/{key}" for key in sorted(contents)[100:]]
    assert [store.get(f"out/{key}") for key in half[:20]] == [contents[key] for key in half[:20]]
    assert min(proxy.faults[fault] for fault in FAULTS) > 10


@pytest.mark.parametrize("page", [1000, 60])
def test_a_long_listing_through_faults_gives_each_key_once(store, proxy, monkeypatch, page):
    from moto.s3.models import s3_backends

    monkeypatch.setenv("MOTO_S3_DEFAULT_MAX_KEYS", str(page))
    names = [f"{i:04}.jpg" for i in range(1203)]
    prefix = store.uri.removeprefix(f"s3://{BUCKET}/")
    for name in names:
        s3_backends["123456789012"]["aws"].put_object(BUCKET, f"{prefix}/{name}", b"x")
    proxy.rate = 0.5 if page == 1000 else 0.25
    assert keys(store) == names
    assert keys(store, after="0599.jpg") == names[600:]
    assert sum(proxy.faults.values()) >= 3


@pytest.mark.parametrize("key", ["a.bin", "a//b.bin"])
def test_bodies_cut_short_are_read_again(store, proxy, direct, key):
    content = random.Random(2).randbytes(300_000)
    direct.put_object(Bucket=BUCKET, Key=f"{store.uri.removeprefix(f's3://{BUCKET}/')}/{key}", Body=content)
    [[item]] = store.list()
    for fault in ("cut_body", "reset", "lost_answer", "slow_down"):
        proxy.rule = once(Answer(fault=fault), "GET")
        assert store.get(key) == content
        proxy.rule = once(Answer(fault=fault), "GET")
        assert store.read(item) == content
    proxy.rate = 0.3
    with store.open(key, item.etag) as file:
        file.seek(1000)
        assert file.read() == content[1000:]
    for _ in range(20):
        assert store.read(item) == content


def test_an_opened_file_is_read_through_faults(store, proxy, monkeypatch):
    monkeypatch.setattr("moderation.storage.store.BUFFER", 10_000)
    text = "".join(f"{random.Random(i).random()}\n" for i in range(20_000))
    store.put("a.gz", gzip.compress(text.encode()))
    proxy.rate = 0.3
    with store.open("a.gz") as raw, gzip.open(raw, "rt") as file:
        assert file.read() == text
    assert sum(proxy.faults.values()) >= 3


def test_a_large_object_is_put_in_parts_through_faults(store, proxy, tmp_path):
    content = os.urandom(12 << 20)
    (tmp_path / "big").write_bytes(content)
    for fault in ("lost_answer", "cut_body", "slow_down", "reset"):
        proxy.rule = once(Answer(fault=fault), "POST", "uploadId=")  # that the upload is complete
        store.put("big", tmp_path / "big")
        assert proxy.faults[fault] == 1
        assert store.head("big").size == len(content)
    assert store.get("big") == content


# --- create-only writes ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", ["lost_answer", "cut_body", "reset", "slow_down"])
def test_a_creation_whose_answer_was_lost_is_ours(store, proxy, fault):
    proxy.rule = once(Answer(fault=fault), "PUT")
    store.put("claim", b"mine", create_only=True)
    assert proxy.faults[fault] == 1
    assert store.get("claim") == b"mine"
    proxy.rule = once(Answer(fault=fault), "PUT")
    with pytest.raises(FileExistsError, match="claim already exists"):
        store.put("claim", b"other", create_only=True)
    assert store.get("claim") == b"mine"


def test_a_conflicting_creation_is_retried(store, proxy):
    proxy.rule = once(s3_error(409, "ConditionalRequestConflict"), "PUT")
    store.put("claim", b"mine", create_only=True)
    assert store.get("claim") == b"mine"


def test_of_many_creators_exactly_one_wins_through_faults(store, proxy):
    proxy.rate = 0.3

    def create(i):
        try:
            store.put("claim", f"{i}".encode(), create_only=True)
        except FileExistsError:
            return None
        return f"{i}".encode()

    with ThreadPoolExecutor(8) as threads:
        [winner] = [content for content in threads.map(create, range(8)) if content]
    assert store.get("claim") == winner


def test_a_store_is_tried_through_faults(store, proxy):
    proxy.rate = 0.25
    for _ in range(5):
        store.check_writable()
    assert keys(store) == []


def test_a_store_that_ignores_conditional_writes_is_refused(store, proxy):
    proxy.rule = lambda method, *_: Answer(200, b"", {"ETag": '"x"'}) if method == "PUT" else None
    assert "ignores conditional writes (If-None-Match)" in failure(store.check_writable)
    proxy.rule = lambda method, *_: s3_error(501, "NotImplemented") if method == "PUT" else None
    refused = failure(store.check_writable)
    advice = "use a newer version of it, or another store; the store says: no (NotImplemented)"
    assert f"perhaps conditional writes: {advice}" in refused


# --- what does not pass ----------------------------------------------------------------------------------------------------

OPERATIONS = {
    "get": lambda store: store.get("a"),
    "get of a key that is no path": lambda store: store.get("a//b"),
    "head": lambda store: store.head("a"),
    "list": lambda store: next(store.list()),
    "put": lambda store: store.put("b", b"x"),
    "create": lambda store: store.put("b", b"x", create_only=True),
    "copy": lambda store: store.copy("a", "b"),
    "delete": lambda store: store.delete("a"),
    "probe": lambda store: store.check_readable(),
}


@pytest.mark.parametrize("fault", ["slow_down", "reset"])
def test_a_store_that_keeps_failing_is_an_error(store, proxy, impatient, fault):
    proxy.rule = lambda *_: Answer(fault=fault)
    for name, operation in OPERATIONS.items():
        proxy.requests = 0
        began = time.monotonic()
        assert failure(operation, store).startswith("storage_error: "), name
        assert time.monotonic() - began < 30, name
        assert proxy.requests >= 2, name


@pytest.mark.parametrize("code", ["AccessDenied", "ExpiredToken", "InvalidAccessKeyId", "SignatureDoesNotMatch"])
def test_a_refusal_in_the_middle_of_a_run_is_reported_at_once(store, proxy, code):
    inner = f"<Token-0>{SECRET}</Token-0><AWSAccessKeyId>{SECRET}</AWSAccessKeyId><StringToSign>{SECRET}</StringToSign>"
    proxy.rule = lambda *_: s3_error(400 if code == "ExpiredToken" else 403, code, inner=inner)
    for name, operation in OPERATIONS.items():
        proxy.requests = 0
        told = failure(operation, store)
        assert told.startswith("access_denied: "), name
        assert told.endswith(f" ({code})"), name
        assert proxy.requests == 1 or name == "head", name


SKEWED = {"Date": format_datetime(datetime.now(UTC) - timedelta(minutes=2000))}
ELSEWHERE = {"x-amz-bucket-region": "eu-west-3"}
PROBLEMS = [
    (s3_error(404, "NoSuchBucket"), "not_found: the bucket 'storage-faults' does not exist at http://127.0.0.1:"),
    (s3_error(403, "AccessDenied"), "access_denied: no permission: these credentials need s3:ListBucket"),
    (s3_error(403, "InvalidAccessKeyId"), "access_denied: the store does not know the access key: check AWS_PROFILE, or"),
    (s3_error(403, "SignatureDoesNotMatch"), "access_denied: the secret does not belong to the access key: check AWS_PROFILE"),
    (s3_error(400, "ExpiredToken"), "access_denied: the session has expired: sign in again (`aws sso login`), or renew"),
    (s3_error(403, "RequestTimeTooSkewed", headers=SKEWED), "access_denied: this machine's clock is 2"),
    (s3_error(403, "RequestTimeTooSkewed"), "access_denied: this machine's clock is wrong: correct it"),
    (s3_error(301, "PermanentRedirect", headers=ELSEWHERE), "access_denied: the bucket is in the region eu-west-3: set"),
    (
        s3_error(400, "AuthorizationHeaderMalformed", inner="<Region>eu-west-3</Region>"),
        "access_denied: the bucket is in the",
    ),
    (s3_error(301, "PermanentRedirect"), "access_denied: the bucket is in another region: set AWS_REGION to it"),
    (s3_error(405, "MethodNotAllowed", "not here"), "storage_error: ListObjectsV2: not here (MethodNotAllowed)"),
]


def test_a_problem_at_start_up_says_what_to_do(store, proxy):
    for answer, message in PROBLEMS:
        proxy.faults.clear()
        proxy.rule = lambda method, path, headers, body: answer if "us-east-1" in headers["authorization"] else None  # noqa: B023
        for check in (store.check_readable, store.check_writable):
            assert failure(check).startswith(message)
        assert proxy.faults["rule"] == 2


@pytest.mark.parametrize(
    ("endpoint", "reason"), [("http://127.0.0.1:1", "Connection refused"), ("http://no-such-host.invalid:9000", "name")]
)
def test_an_endpoint_that_cannot_be_reached_is_named(other_settings, direct, monkeypatch, impatient, endpoint, reason):
    for name in ("HTTP_PROXY", "http_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    store = Store(f"s3://{BUCKET}/x")
    told = failure(store.check_readable)
    assert told.startswith(f"storage_error: cannot reach {endpoint} (")
    assert told.endswith("): check AWS_ENDPOINT_URL and the network")
    for text in (told, failure(store.get, "a")):
        assert reason.lower() in text.lower()


def test_a_listing_answered_with_nothing_is_asked_for_again(store, proxy):
    store.put("a", b"x")
    for nothing in (Answer(200), Answer(200, b"<html>busy</html>"), Answer(200, b"<?xml version='1.0'?><ListBucketResult><Na")):
        proxy.rule = once(nothing, "GET")
        assert keys(store) == ["a"]


# --- settings of AWS -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return make_authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture
def https(other_settings, s3_endpoint, direct, authority, monkeypatch):
    """An S3 endpoint with that certificate."""
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(authority / "server.pem")
    for name in ("AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
    with FaultyProxy(s3_endpoint, seed=1, tls=tls) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
        yield proxy


@pytest.mark.parametrize("where", ["environment", "config file"])
def test_a_certificate_of_ones_own_authority_is_trusted(https, authority, monkeypatch, tmp_path, where):
    if where == "environment":
        monkeypatch.setenv("AWS_CA_BUNDLE", str(authority / "ca.pem"))
    else:
        (tmp_path / "config").write_text(f"[default]\nca_bundle = {authority / 'ca.pem'}\n")
        monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    store = Store(f"s3://{BUCKET}/{uuid.uuid4().hex}")
    store.check_writable()
    store.put("a", b"x")
    assert keys(store) == ["a"]
    assert store.get("a") == b"x"


def test_an_unknown_certificate_says_what_to_set(https):
    store = Store(f"s3://{BUCKET}/x")
    for call in (store.check_readable, lambda: store.get("a"), lambda: store.put("a", b"x")):
        told = failure(call)
        assert told.startswith(f"storage_error: the certificate of {https.endpoint} is not trusted (")
        assert told.endswith("): set AWS_CA_BUNDLE to the PEM file of the authority that signed it")


def test_a_missing_or_broken_bundle_of_certificates_is_named(https, monkeypatch, tmp_path):
    (tmp_path / "broken.pem").write_text("no certificate")
    for name in ("missing.pem", "broken.pem"):
        monkeypatch.setenv("AWS_CA_BUNDLE", str(tmp_path / name))
        assert name in failure(Store, f"s3://{BUCKET}/x")


def test_the_region_is_the_same_for_listing_and_reading(other_settings, proxy, monkeypatch):
    for name, value in {"AWS_REGION": "eu-west-3", "AWS_DEFAULT_REGION": "us-east-1"}.items():
        monkeypatch.setenv(name, value)
    signed = []

    def rule(method, path, headers, body):
        signed.append(headers["authorization"])

    proxy.rule = rule
    store = Store(f"s3://{BUCKET}/{uuid.uuid4().hex}")
    store.put("a", b"x")
    assert keys(store) == ["a"]
    assert len(signed) == 2
    assert all("/eu-west-3/s3/" in text for text in signed)


@pytest.mark.parametrize("style", ["virtual", "path", "auto"])
def test_the_addressing_style_is_the_same_for_listing_and_reading(other_settings, proxy, monkeypatch, tmp_path, style):
    (tmp_path / "config").write_text(f"[default]\ns3 =\n  addressing_style = {style}\n")
    settings = {"AWS_CONFIG_FILE": str(tmp_path / "config"), "AWS_ENDPOINT_URL": "http://store.test"}
    proxies = {"HTTP_PROXY": proxy.endpoint, "http_proxy": proxy.endpoint, "NO_PROXY": "", "no_proxy": ""}
    for name, value in {**settings, **proxies}.items():
        monkeypatch.setenv(name, value)
    asked = []

    def rule(method, path, headers, body):
        asked.append((path.partition("?")[0], headers["host"]))
        return s3_error(403, "AccessDenied")

    proxy.rule = rule
    store = Store(f"s3://{BUCKET}")
    for call in (store.check_readable, lambda: store.get("a")):
        failure(call)
    host = f"{BUCKET}.store.test" if style == "virtual" else "store.test"
    root = f"http://{host}/" if style == "virtual" else f"http://{host}/{BUCKET}"
    assert asked == [(root, host), (f"{root.rstrip('/')}/a", host)]


def test_pools_are_as_large_as_asked_for(proxy):
    backend = Store(f"s3://{BUCKET}", connections=40)._backend
    assert backend._client.meta.config.max_pool_connections == 40
    assert backend._store.client_options["pool_max_idle_per_host"] == "40"
    assert Store(f"s3://{BUCKET}/x", 40)._backend is backend
    assert Store(f"s3://{BUCKET}/x")._backend is not backend


def test_memory_stores_share_one_backend_whatever_the_pool_size():
    name = f"memory://{uuid.uuid4().hex}"
    Store(name, 3).put("a", b"x")
    assert keys(Store(name, 4)) == ["a"]


def test_credentials_that_end_in_the_middle_of_a_run_say_what_to_do(other_settings, store, monkeypatch, impatient):
    def fails():
        raise error

    for credentials in (
        store._backend._client._request_signer._credentials,
        store._backend._store.credential_provider.credentials,
    ):
        monkeypatch.setattr(credentials, "get_frozen_credentials", fails)
    for name in ("get", "head", "list"):
        error = SSOTokenLoadError(error_msg="expired")
        assert "access_denied: no valid credentials: sign in again (`aws sso login`)" in failure(OPERATIONS[name], store)
        error = CredentialRetrievalError(provider="container", error_msg="busy")
        assert failure(OPERATIONS[name], store).startswith("storage_error: ")


def test_what_used_up_all_patience_is_not_tried_again():
    tries = []

    def call():
        tries.append(1)
        raise TransientError(ErrorCode.STORAGE_ERROR, "timed out")

    assert failure(retried, call, patience=0) == "storage_error: timed out"
    assert len(tries) == 1


def test_only_temporary_failures_are_transient_errors():
    error = pickle.loads(pickle.dumps(TransientError(ErrorCode.STORAGE_ERROR, "x")))  # noqa: S301 - our own bytes
    assert isinstance(error, StorageError)
    assert (error.code, error.detail) == (ErrorCode.STORAGE_ERROR, "x")
