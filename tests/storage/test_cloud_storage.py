"""gs:// and az:// where they differ from files: keys that are no paths, pages that fail, credentials, certificates.

Azure is azurite, Microsoft's own emulator. Google is an HTTP server of these tests, and fake-gcs-server where it is installed.
"""

import base64
import hashlib
import hmac
import json
import pickle
import ssl
import threading
import time
import urllib.request
import uuid
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import quote, urlencode

import pytest
from certificates import make_authority
from cloud_emulators import azure_put, fake_gcs
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from faulty_proxy import Answer, FaultyProxy, once

from moderation.errors import ErrorCode, StorageError
from moderation.storage import Store
from moderation.storage.azure import AzureBackend
from moderation.storage.store import _bucket

ODD_KEYS = [
    "one/a//b.jpg",
    "odd/../up.jpg",
    "odd/./here.jpg",
    "/lead.jpg",
    "//",
    "./x.jpg",
    "../y.jpg",
    "a/b/",
    "a/b/.",
    "tab\there.jpg",
    "new\nline.jpg",
    "carriage\rreturn.jpg",
    "del\x7f.jpg",
    "%41.jpg",
    "%2F",
    "%",
    "100%.jpg",
    "+plus and space+.jpg",
    "#f?q=1&x=2",
    "<b>&amp;.jpg",
    "é.jpg",
    "e\u0301.jpg",
    "rtl\u202egpj.exe",
    "😀.jpg",
    "trail.",
    "long/" + "x" * 900 + ".jpg",
]
GOOGLE_ONLY = ["back\\slash.jpg", "bell\x07.jpg", "escape\x1b[31m.jpg", "noncharacter\uffff.jpg", "\ufffe", ".", ".."]
"""Azure makes a slash of a backslash; azurite fails on characters that XML cannot hold"""

GOOGLE = (
    "GOOGLE_SERVICE_ACCOUNT",
    "GOOGLE_SERVICE_ACCOUNT_PATH",
    "GOOGLE_SERVICE_ACCOUNT_KEY",
    "GOOGLE_APPLICATION_CREDENTIALS",
)
SECRET = "a-secret-that-must-not-leak"


@pytest.fixture(autouse=True)
def fresh(monkeypatch, gcs):
    """No connections from before, none left behind, nobody's credentials."""
    _bucket.cache_clear()
    for name in (*GOOGLE, "GOOGLE_BASE_URL", "AZURE_STORAGE_ENDPOINT", "AZURE_STORAGE_CONNECTION_STRING", "SSL_CERT_FILE"):
        monkeypatch.delenv(name, raising=False)
    gcs.reset()
    yield
    _bucket.cache_clear()


class Cloud:
    """One service behind a proxy that can fail."""

    def __init__(self, scheme, proxy, server):
        self.scheme, self.proxy, self.server = scheme, proxy, server
        self.prefix = uuid.uuid4().hex
        self.store = Store(f"{scheme}://behaviour/{self.prefix}")

    def put(self, key, data):
        """Whatever the key is."""
        if self.scheme == "gs":
            self.server.put("behaviour", f"{self.prefix}/{key}", data)
        else:
            azure_put(self.server, f"{self.prefix}/{key}", data)


@pytest.fixture(params=["gs", "az"])
def cloud(request, monkeypatch):
    server = request.getfixturevalue({"gs": "gcs", "az": "azurite"}[request.param])
    with FaultyProxy(server.url if request.param == "gs" else server._http.endpoint.rpartition("/")[0], seed=1) as proxy:
        monkeypatch.setenv({"gs": "STORAGE_EMULATOR_HOST", "az": "AZURITE_BLOB_STORAGE_URL"}[request.param], proxy.endpoint)
        yield Cloud(request.param, proxy, server)


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return make_authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture
def impatient(monkeypatch):
    monkeypatch.setattr("moderation.storage.retrying.PATIENCE", 0.1)
    monkeypatch.setattr("moderation.storage.store.PROBE_PATIENCE", 0.1)


def items_of(store):
    return {store.key_of(item.uri): item for page in store.list() for item in page}


def failure(call, *args):
    with pytest.raises(StorageError) as caught:
        call(*args)
    told = str(caught.value)
    assert "\n" not in told
    assert SECRET not in told
    assert len(told) < 500
    assert type(pickle.loads(pickle.dumps(caught.value))) is type(caught.value)  # noqa: S301 - our own bytes
    return told


# --- keys ------------------------------------------------------------------------------------------------------------------


def test_keys_that_are_no_paths_are_listed_and_read_and_not_mixed_up(cloud):
    names = ODD_KEYS + (GOOGLE_ONLY if cloud.scheme == "gs" else [])
    contents = {
        key: f"{number}".encode() for number, key in enumerate([*names, "a.jpg", "b.jpg", "one/a/b.jpg", "up.jpg", "zzz"])
    }
    for key, data in contents.items():
        cloud.put(key, data)
    items = items_of(cloud.store)
    assert sorted(items) == sorted(contents)
    for key, item in items.items():
        assert cloud.store.read(item) == contents[key], key
        assert cloud.store.head(key).etag == item.etag, key
        assert cloud.store.head(key).size == item.size, key
    for key in ("one/a//b.jpg", "a.jpg"):
        assert failure(cloud.store.get, key, "another-etag").startswith("changed:")
        assert cloud.store.open(key, items[key].etag).read() == contents[key]
    cloud.put("one/a//b.jpg", b"another")
    assert failure(cloud.store.read, items["one/a//b.jpg"]).startswith("changed:")
    assert failure(cloud.store.get, "gone//b.jpg") == "not_found: no such object"
    assert failure(cloud.store.put, "one/a//c.jpg", b"x").startswith("storage_error: will not write the key")
    cloud.store.delete("one/a//b.jpg")
    cloud.store.delete("never//was")
    assert sorted(items_of(cloud.store)) == sorted(contents.keys() - {"one/a//b.jpg"})


def test_folder_markers_of_consoles_are_no_objects(cloud):
    for key, data in {"": b"", "g/": b"", "g/h/": b"", "g/empty.jpg": b"", "g/full/": b"x"}.items():
        cloud.put(key, data)
    assert sorted(items_of(cloud.store)) == ["g/empty.jpg", "g/full/"]


def test_folders_of_an_account_with_a_hierarchy_are_no_objects(azurite):
    prefix = uuid.uuid4().hex
    azure_put(azurite, f"{prefix}/folder", b"", **{"x-ms-meta-hdi_isfolder": "true"})
    azure_put(azurite, f"{prefix}/folder/a.jpg", b"x")
    assert list(items_of(Store(f"az://behaviour/{prefix}"))) == ["folder/a.jpg"]


def test_a_store_that_ignores_conditions_gives_no_other_version(gcs):
    gcs.heeds_conditions = False
    store = Store(f"gs://behaviour/{uuid.uuid4().hex}")
    for key in ("a.jpg", "odd//a.jpg"):
        gcs.put("behaviour", f"{store.uri.rpartition('/')[2]}/{key}", b"one")
    items = items_of(store)
    for key, item in items.items():
        gcs.put("behaviour", item.uri.removeprefix("gs://behaviour/"), b"two")
        assert failure(store.read, item).startswith("changed: the object changed after listing"), key


def test_odd_keys_come_through_fake_gcs_server(tmp_path, monkeypatch):
    contents = {key: key.encode() for key in [*ODD_KEYS, "back\\slash.jpg", "..", "."]}
    with fake_gcs(tmp_path) as endpoint:

        def post(path, data, kind):
            headers = {"content-type": kind}
            with urllib.request.urlopen(urllib.request.Request(f"{endpoint}{path}", data, headers)) as answer:  # noqa: S310
                assert answer.status == 200

        post("/storage/v1/b?project=p", b'{"name": "real"}', "application/json")
        for key, data in contents.items():
            post(f"/upload/storage/v1/b/real/o?uploadType=media&name={quote(key, safe='')}", data, "image/jpeg")
        key = {"gcs_base_url": endpoint, "disable_oauth": True, "client_email": "", "private_key": "", "private_key_id": ""}
        monkeypatch.setenv("GOOGLE_SERVICE_ACCOUNT_KEY", json.dumps(key))
        monkeypatch.delenv("STORAGE_EMULATOR_HOST")
        store = Store("gs://real")
        assert {key: store.read(item) for key, item in items_of(store).items()} == contents


# --- pages -----------------------------------------------------------------------------------------------------------------


def test_a_page_that_fails_is_asked_for_again_by_its_own_token(cloud, gcs, monkeypatch):
    names = [f"{i:02}.jpg" for i in range(40)]
    for name in names:
        cloud.put(name, b"x")
    gcs.page = 7
    monkeypatch.setattr("moderation.storage.azure.LISTED_AT_ONCE", 7)
    if cloud.scheme == "gs":
        gcs.sort = lambda keys: sorted(keys, key=lambda key: hashlib.md5(key.encode()).digest())  # noqa: S324 - any order
    faults = [
        Answer(503, b"<Error><Code>SlowDown</Code></Error>"),
        Answer(fault="reset"),
        Answer(200, b""),
        Answer(200, b"<?xml version='1.0'?><ListBucketResult><Na"),
        Answer(500, b"<html>busy</html>"),
        Answer(fault="cut_body"),
    ]
    asked = []

    def rule(method, path, headers, body):
        if "list" not in path:
            return None
        asked.append(path)
        return faults[len(set(asked)) % len(faults)] if asked.count(path) == 1 else None

    cloud.proxy.rule = rule
    listed = [cloud.store.key_of(item.uri) for page in cloud.store.list() for item in page]
    assert sorted(listed) == names
    assert len(listed) == 40
    assert len(set(asked)) == 6
    assert all(asked.count(path) == 2 for path in asked)


def test_a_page_that_never_comes_ends_the_listing(cloud, impatient):
    cloud.put("a.jpg", b"x")
    cloud.proxy.rule = lambda *_: Answer(200, b"<html>busy</html>")
    assert "is not a page of a listing" in failure(lambda: list(cloud.store.list()))


def test_keys_out_of_order_where_order_is_promised_stop_the_run(gcs):
    store = Store(f"gs://behaviour/{uuid.uuid4().hex}")
    for name in "abc":
        gcs.put("behaviour", f"{store.uri.rpartition('/')[2]}/{name}", b"x")
    gcs.sort = lambda keys: sorted(keys, reverse=True)
    assert not store.ordered
    assert list(items_of(store)) == ["c", "b", "a"]
    store._backend.ordered = True
    told = failure(items_of, store)
    assert "b' after" in told
    assert told.endswith("objects may be missing from it; name them in a manifest instead")


# --- credentials of Google -------------------------------------------------------------------------------------------------


@pytest.fixture
def google(monkeypatch, gcs):
    """A service that wants a token, and no emulator's variable."""
    monkeypatch.delenv("STORAGE_EMULATOR_HOST")
    monkeypatch.setenv("GOOGLE_BASE_URL", gcs.url)
    monkeypatch.setenv("NO_GCE_CHECK", "true")
    monkeypatch.setenv("CLOUDSDK_CONFIG", "/nonexistent")
    gcs.token = f"ya29.{SECRET}"
    return gcs


@pytest.fixture(scope="module")
def private_key():
    key = rsa.generate_private_key(65537, 2048)
    plain = serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain).decode()


def service_account(url, private_key):
    who = {"type": "service_account", "client_email": "moderation@project.example", "private_key_id": "1"}
    return json.dumps({**who, "private_key": private_key, "token_uri": f"{url}/token"})


@pytest.mark.parametrize("variable", GOOGLE)
def test_a_service_account_signs_in_once_for_all_requests(google, private_key, monkeypatch, tmp_path, variable):
    text = service_account(google.url, private_key)
    (tmp_path / "key.json").write_text(text)
    monkeypatch.setenv(variable, text if variable.endswith("KEY") else str(tmp_path / "key.json"))
    google.signed_in.clear()
    store = Store(f"gs://behaviour/{uuid.uuid4().hex}")
    google.put("behaviour", f"{store.uri.rpartition('/')[2]}/odd//a.jpg", b"x")
    store.check_writable()
    store.put("a.jpg", b"x")
    assert {key: store.read(item) for key, item in items_of(store).items()} == {"a.jpg": b"x", "odd//a.jpg": b"x"}
    assert google.signed_in["POST"] == 1
    assert {request.headers["authorization"] for request in google.requests} == {f"Bearer {google.token}"}


def test_a_token_a_public_bucket_and_a_paying_project(google, monkeypatch):
    monkeypatch.setenv("GOOGLE_BEARER_TOKEN", google.token)
    monkeypatch.setenv("GOOGLE_CLOUD_QUOTA_PROJECT", "payer")
    store = Store("gs://behaviour/bearer")
    store.put("a.jpg", b"x")
    assert [store.read(item) for item in items_of(store).values()] == [b"x"]
    assert {request.headers.get("x-goog-user-project") for request in google.requests} == {"payer"}
    _bucket.cache_clear()
    monkeypatch.delenv("GOOGLE_CLOUD_QUOTA_PROJECT")
    monkeypatch.setenv("GOOGLE_SKIP_SIGNATURE", "true")
    google.token = ""
    google.requests.clear()
    store = Store("gs://behaviour/bearer")
    assert [store.read(item) for item in items_of(store).values()] == [b"x"]
    assert not any("authorization" in request.headers for request in google.requests)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({}, "no Google credentials found: set GOOGLE_APPLICATION_CREDENTIALS to a key file, or run `gcloud auth"),
        (
            {"GOOGLE_SERVICE_ACCOUNT": "/no/such.json"},
            "GOOGLE_SERVICE_ACCOUNT names '/no/such.json', which cannot be read (No such",
        ),
        (
            {"GOOGLE_APPLICATION_CREDENTIALS": "/no/such.json"},
            "GOOGLE_APPLICATION_CREDENTIALS names '/no/such.json', which cannot be",
        ),
        (
            {"GOOGLE_SERVICE_ACCOUNT_KEY": '{"private_key": "' + SECRET},
            "GOOGLE_SERVICE_ACCOUNT_KEY is not JSON, line 1 column 17",
        ),
        ({"GOOGLE_SERVICE_ACCOUNT_KEY": f'["{SECRET}"]'}, "GOOGLE_SERVICE_ACCOUNT_KEY is not a JSON object"),
        (
            {"GOOGLE_SERVICE_ACCOUNT_KEY": f'{{"private_key": "{SECRET}"}}'},
            "the key that GOOGLE_SERVICE_ACCOUNT_KEY gives cannot be",
        ),
        (
            {"GOOGLE_SERVICE_ACCOUNT_KEY": f'{{"private_key": "{SECRET}", "client_email": "a@b", "token_uri": "https://x"}}'},
            "(its private key is not a PEM key): use the file as Google created it",
        ),
        ({"GOOGLE_BASE_URL": "storage.example"}, "GOOGLE_BASE_URL is not an endpoint: give a URL such as https://host:port"),
        (
            {"GOOGLE_BASE_URL": f"https://user:{SECRET}@host"},
            "GOOGLE_BASE_URL contains a user name or password: leave them out",
        ),
        (
            {"GOOGLE_BASE_URL": "http://storage.example"},
            "GOOGLE_BASE_URL goes to storage.example over http, which others can read",
        ),
    ],
)
def test_what_is_wrong_with_googles_settings_is_one_line_at_once(google, monkeypatch, settings, told):
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    began = time.monotonic()
    assert told in failure(Store, "gs://behaviour/x")
    assert time.monotonic() - began < 20


def test_google_credentials_that_are_not_accepted_say_what_to_check(google, private_key, monkeypatch, impatient):
    monkeypatch.setenv("GOOGLE_BEARER_TOKEN", "another-token-than-is-wanted")
    store = Store("gs://behaviour/x")
    for call in (store.check_readable, store.check_writable, lambda: store.get("a"), lambda: store.get("odd//a")):
        told = failure(call)
        assert told.startswith("access_denied: the store does not accept the credentials: check GOOGLE_APPLICATION_CREDENTIALS")
        assert "The store's own sentence" in told
    _bucket.cache_clear()
    monkeypatch.delenv("GOOGLE_BEARER_TOKEN")
    monkeypatch.setenv("GOOGLE_SERVICE_ACCOUNT_KEY", service_account("http://127.0.0.1:9", private_key))
    for call in (Store("gs://behaviour/x").check_readable, lambda: Store("gs://behaviour/x").get("a")):
        assert "Google's sign-in gives no access token and does not answer" in failure(call)


def test_a_missing_bucket_and_a_missing_container_are_named(gcs, azurite):
    for uri, kind in (("gs://no-such-bucket", "bucket"), ("az://no-such-bucket", "container")):
        for check in (Store(uri).check_readable, Store(f"{uri}/x").check_writable):
            told = failure(check)
            assert f"not_found: the {kind} 'no-such-bucket' does not exist at http://127.0.0.1:" in told
            assert "check its name and" in told
        assert failure(Store(uri).get, "a").startswith("not_found: no such")


# --- credentials of Azure --------------------------------------------------------------------------------------------------


@pytest.fixture
def azure(monkeypatch, azurite):
    """azurite, named as any other endpoint."""
    monkeypatch.delenv("AZURE_STORAGE_USE_EMULATOR")
    monkeypatch.delenv("AZURITE_BLOB_STORAGE_URL")
    monkeypatch.setenv("AZURE_STORAGE_ENDPOINT", azurite._http.endpoint)
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", "devstoreaccount1")
    return azurite


def signature(azurite, permissions):
    """A SAS token for the container: https://learn.microsoft.com/rest/api/storageservices/create-service-sas."""
    until, version = f"{datetime.now(UTC) + timedelta(hours=1):%Y-%m-%dT%H:%M:%SZ}", "2020-12-06"
    lines = [permissions, "", until, "/blob/devstoreaccount1/behaviour", "", "", "", version, "c", "", "", "", "", "", "", ""]
    digest = hmac.new(azurite._key.key, "\n".join(lines).encode(), hashlib.sha256).digest()
    return urlencode({"sv": version, "sr": "c", "sp": permissions, "se": until, "sig": base64.b64encode(digest).decode()})


@pytest.mark.parametrize("kind", ["key", "connection string", "sas", "sas in a connection string"])
def test_azure_takes_keys_signatures_and_connection_strings(azure, monkeypatch, kind):
    key, sas = base64.b64encode(azure._key.key).decode(), signature(azure, "racwdl")
    parts = f"BlobEndpoint={azure._http.endpoint};AccountName=devstoreaccount1;"
    if kind == "key":
        monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_KEY", key)
    elif kind == "sas":
        monkeypatch.setenv("AZURE_STORAGE_SAS_TOKEN", f"?{sas}")
    else:
        monkeypatch.delenv("AZURE_STORAGE_ENDPOINT")
        monkeypatch.delenv("AZURE_STORAGE_ACCOUNT_NAME")
        own = f"AccountKey={key}" if kind == "connection string" else f"SharedAccessSignature={sas}"
        monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", parts + own)
    store = Store(f"az://behaviour/{uuid.uuid4().hex}")
    store.check_writable()
    store.put("a.jpg", b"x")
    azure_put(azure, f"{store.uri.rpartition('/')[2]}/odd//a.jpg", b"y")
    assert {key: store.read(item) for key, item in items_of(store).items()} == {"a.jpg": b"x", "odd//a.jpg": b"y"}


def test_a_signature_that_may_not_list_says_so(azure, monkeypatch):
    monkeypatch.setenv("AZURE_STORAGE_SAS_TOKEN", signature(azure, "r"))
    told = failure(Store("az://behaviour/x").check_readable)
    assert "no permission: the credentials need the role Storage Blob Data Reader" in told
    assert "sig=" not in told


def test_a_token_for_azure_goes_with_every_request(monkeypatch):
    asked = []

    class Recorder(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append((self.path, self.headers.get("authorization")))
            self.send_response(403)
            self.send_header("x-ms-error-code", "AuthorizationPermissionMismatch")
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Recorder)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    monkeypatch.setenv("AZURE_STORAGE_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", "account")
    monkeypatch.setenv("AZURE_STORAGE_TOKEN", SECRET)
    store = Store("az://box")
    for call in (store.check_readable, lambda: store.get("a"), lambda: store.get("odd//a")):
        assert failure(call).startswith("access_denied: ")
    assert len(asked) == 3
    assert {header for _, header in asked} == {f"Bearer {SECRET}"}
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        (
            {"AZURE_STORAGE_ACCOUNT_NAME": ""},
            "no storage account: set AZURE_STORAGE_ACCOUNT_NAME, or AZURE_STORAGE_CONNECTION_STRING",
        ),
        ({"AZURE_STORAGE_ACCOUNT_NAME": "Not/A Name"}, "AZURE_STORAGE_ACCOUNT_NAME 'Not/A Name' is not an account name"),
        ({"AZURE_STORAGE_ACCOUNT_KEY": f"{SECRET}!"}, "the key of the storage account is not Base64"),
        (
            {"AZURE_STORAGE_ACCOUNT_NAME": "", "AZURE_STORAGE_CONNECTION_STRING": SECRET},
            "AZURE_STORAGE_CONNECTION_STRING is no",
        ),
        ({"AZURE_STORAGE_ENDPOINT": "http://storage.example"}, "AZURE_STORAGE_ENDPOINT goes to storage.example over http"),
        ({"AZURE_STORAGE_ENDPOINT": "here"}, "AZURE_STORAGE_ENDPOINT is not an endpoint: give a URL"),
    ],
)
def test_what_is_wrong_with_azures_settings_is_one_line_at_once(monkeypatch, settings, told):
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", "account")
    monkeypatch.delenv("AZURE_STORAGE_USE_EMULATOR", raising=False)
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    began = time.monotonic()
    assert told in failure(lambda: Store("az://box/x").check_readable())
    assert time.monotonic() - began < 20


def test_a_wrong_key_and_no_credentials_for_azure_say_what_to_set(azure, monkeypatch, impatient):
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_KEY", base64.b64encode(b"another key").decode())
    store = Store("az://behaviour/x")
    for call in (store.check_readable, lambda: store.get("a"), lambda: store.get("odd//a")):
        assert failure(call).startswith("access_denied: ")
    _bucket.cache_clear()
    monkeypatch.delenv("AZURE_STORAGE_ACCOUNT_KEY")
    monkeypatch.setenv("AZURE_TOKEN_CREDENTIALS", "EnvironmentCredential")  # asks no other machine
    store = Store("az://behaviour/x")
    for call in (store.check_readable, lambda: store.get("a"), lambda: store.get("odd//a")):
        assert failure(call).startswith("access_denied: no Azure credentials: set AZURE_STORAGE_ACCOUNT_KEY or")


def test_an_endpoint_over_http_on_this_machine_needs_no_switch_and_any_other_one(monkeypatch, impatient):
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", "account")
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_KEY", base64.b64encode(b"key").decode())
    monkeypatch.delenv("AZURE_STORAGE_USE_EMULATOR", raising=False)
    monkeypatch.setenv("AZURE_STORAGE_ENDPOINT", "http://127.0.0.1:9")
    told = failure(Store("az://box/x").check_readable)
    assert (
        told
        == "storage_error: cannot reach http://127.0.0.1:9 (Connection refused): check AZURE_STORAGE_ENDPOINT and the network"
    )
    monkeypatch.setenv("AZURE_STORAGE_ENDPOINT", "http://no-such-host.invalid:9")
    monkeypatch.setenv("AZURE_ALLOW_HTTP", "true")
    _bucket.cache_clear()
    assert "cannot reach http://no-such-host.invalid:9 (" in failure(Store("az://box/x").check_readable)


# --- certificates ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["gs", "az"])
def test_an_unknown_certificate_says_what_to_set_and_is_trusted_then(scheme, gcs, azurite, authority, monkeypatch, impatient):
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(authority / "server.pem")
    target = gcs.url if scheme == "gs" else azurite._http.endpoint.rpartition("/")[0]
    with FaultyProxy(target, seed=1, tls=tls) as proxy:
        monkeypatch.setenv({"gs": "STORAGE_EMULATOR_HOST", "az": "AZURITE_BLOB_STORAGE_URL"}[scheme], proxy.endpoint)
        store = Store(f"{scheme}://behaviour/{uuid.uuid4().hex}")
        for call in (store.check_readable, lambda: store.get("a"), lambda: store.put("a", b"x"), lambda: store.get("a//b")):
            told = failure(call)
            assert told.startswith(f"storage_error: the certificate of {proxy.endpoint} is not trusted (")
            assert told.endswith("): set SSL_CERT_FILE to the PEM file of the authority that signed it")
        _bucket.cache_clear()
        monkeypatch.setenv("SSL_CERT_FILE", str(authority / "ca.pem"))
        store = Store(store.uri)
        store.check_writable()
        store.put("a", b"x")
        assert [store.read(item) for item in items_of(store).values()] == [b"x"]


@pytest.mark.parametrize("cloud", ["az"], indirect=True)
def test_azure_archives_are_errors_of_their_own(cloud):
    cloud.put("a.jpg", b"x")
    [item] = items_of(cloud.store).values()
    body = b"<?xml version='1.0'?><Error><Code>BlobArchived</Code><Message>This operation is not permitted.</Message></Error>"
    cloud.proxy.rule = once(Answer(409, body, {"x-ms-error-code": "BlobArchived"}), "GET")
    with pytest.raises(StorageError, match=r"rehydrate it .*This operation is not permitted") as caught:
        cloud.store.read(item)
    assert caught.value.code is ErrorCode.ARCHIVED


def test_the_signature_of_azure_shows_no_key(azurite):
    assert base64.b64encode(azurite._key.key).decode() not in repr(azurite._key)
    assert isinstance(azurite, AzureBackend)
