"""What tests share: real services, started once."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import hypothesis
import pytest
from places import MODULE_FOLDERS

if TYPE_CHECKING:
    from browsers import Browser, Recorder
    from gcs_server import GcsServer

    from moderation.storage.azure import AzureBackend

pytest_plugins = ["skips"]

# Libraries that would phone home, or leave files in the home folder of whoever runs the tests, are told not to.
os.environ["PREFECT_SERVER_ANALYTICS_ENABLED"] = "false"
os.environ["GX_ANALYTICS_ENABLED"] = "False"
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
os.environ["HF_HUB_OFFLINE"] = "1"
# Ray's workers import the modules of what tests send them; tests themselves import only their own and those of `helpers`.
os.environ["PYTHONPATH"] = os.pathsep.join([*MODULE_FOLDERS, *filter(None, [os.environ.get("PYTHONPATH")])])

# What is started in the background, or by nohup, ignores these, and so would the processes that tests send them to.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)

hypothesis.settings.register_profile("patient", deadline=None)  # a busy machine is no mistake
hypothesis.settings.load_profile("patient")


@pytest.fixture(scope="session")
def ray_cluster(s3_endpoint: str) -> Iterator[None]:
    """A Ray on this machine, closed by a token, for all tests that need one; its workers know the S3 endpoint."""
    from moderation.cluster.session import ray_session

    with ray_session(None):
        yield


@pytest.fixture(scope="session")
def prefect_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Prefect's folder for all tests: a new one costs its server many seconds to set up."""
    return tmp_path_factory.mktemp("prefect")


@pytest.fixture(scope="session")
def s3_endpoint() -> Iterator[str]:
    """A real S3 API over HTTP, on loopback; AWS_* point at it while tests run."""
    import logging

    from moto.s3.responses import S3Response
    from moto.server import ThreadedMotoServer

    put_object, one_at_a_time = S3Response.put_object, threading.Lock()

    def put_in_one_step(response: S3Response) -> object:
        """As S3 does: moto looks whether the object exists, and then writes it, so that of two creators both could win."""
        with one_at_a_time:
            return put_object(response)

    S3Response.put_object = put_in_one_step
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    endpoint = f"http://{host}:{port}"
    settings = {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "a-secret-that-must-not-leak",
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    before = {name: os.environ.get(name) for name in settings}
    os.environ.update(settings)
    yield endpoint
    for name, value in before.items():
        if value is None:
            del os.environ[name]
        else:
            os.environ[name] = value
    server.stop()


@pytest.fixture(scope="session")
def demo_images() -> Path:
    from moderation.demo import IMAGES_DIR

    return IMAGES_DIR


@pytest.fixture(scope="session")
def gcs() -> "Iterator[GcsServer]":
    """A Google Cloud Storage over HTTP, on loopback, with the bucket `behaviour`; the environment points at it."""
    from gcs_server import GcsServer

    server = GcsServer()
    server.buckets["behaviour"] = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STORAGE_EMULATOR_HOST", server.url)
        yield server
    server.close()


@pytest.fixture(scope="session")
def azurite(tmp_path_factory: pytest.TempPathFactory) -> "Iterator[AzureBackend]":
    """Azure's own emulator with the container `behaviour`, as a backend; the environment points at it."""
    from cloud_emulators import azurite

    from moderation.storage.azure import AzureBackend

    with azurite(tmp_path_factory.mktemp("azurite")) as endpoint, pytest.MonkeyPatch.context() as patch:
        patch.setenv("AZURE_STORAGE_USE_EMULATOR", "true")
        patch.setenv("AZURITE_BLOB_STORAGE_URL", endpoint)
        backend = AzureBackend("behaviour", 16)
        assert backend._send("PUT", f"{backend._container_url}?restype=container", {}).status == 201
        yield backend


@pytest.fixture(scope="module")
def recorder() -> "Iterator[Recorder]":
    """What the browser asks for on the network."""
    from browsers import Recorder

    with closing(Recorder()) as recorder:
        yield recorder


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory, recorder: "Recorder") -> "Iterator[Browser]":
    """A headless Chromium, whose requests go to the recorder."""
    from browsers import Browser

    with closing(Browser(tmp_path_factory.mktemp("profile"), recorder.port)) as browser:
        yield browser
