"""The way to S3: credentials, region, endpoint and certificates, from where every AWS tool takes them."""

import os
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import boto3
import botocore.session
from botocore.config import Config
from obstore.auth.boto3 import Boto3CredentialProvider
from obstore.store import S3Store

from moderation.errors import ErrorCode, StorageError
from moderation.storage.cloud import RETRIES, client_options
from moderation.storage.retrying import CONNECT_TIMEOUT, READ_TIMEOUT

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from obstore.store import S3Config

# botocore renews what lives less than ten minutes more; for longer, nobody may keep what it gave.
_CREDENTIALS_LIFE = timedelta(minutes=10)


def connect(bucket: str, connections: int) -> tuple["S3Client", S3Store]:
    """Clients of boto3 and obstore with the same settings, each for `connections` threads. Nothing is sent yet.

    Raises:
        StorageError: there are no credentials, or no such CA bundle.
        BotoCoreError, ValueError: a setting cannot be used.
    """
    settings = botocore.session.get_session()
    # botocore knows AWS_DEFAULT_REGION only; all other tools, AWS_REGION before it.
    session = boto3.Session(botocore_session=settings, region_name=os.environ.get("AWS_REGION") or None)
    client: S3Client = session.client(
        "s3",
        config=Config(
            connect_timeout=CONNECT_TIMEOUT,
            read_timeout=READ_TIMEOUT,
            retries={"mode": "standard", "total_max_attempts": 1},
            max_pool_connections=connections,
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
        ),
    )
    if session.get_credentials() is None:
        raise StorageError(
            ErrorCode.ACCESS_DENIED,
            "no AWS credentials found: set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
        )
    endpoint = client.meta.endpoint_url
    options = client_options(connections)
    options["allow_http"] = endpoint.startswith("http://")
    authorities = settings.get_config_variable("ca_bundle") or os.environ.get("REQUESTS_CA_BUNDLE")
    if authorities:
        options["root_certificate"] = _pem(authorities)
    style = (settings.get_config_variable("s3") or {}).get("addressing_style")
    config = _addressing(endpoint, bucket, virtual=style == "virtual")
    config["region"] = client.meta.region_name or "us-east-1"
    config["disable_bulk_delete"] = True  # not every store has it
    store = S3Store(
        bucket,
        config=config,
        client_options=options,
        retry_config=RETRIES,
        credential_provider=Boto3CredentialProvider(session, ttl=_CREDENTIALS_LIFE),
    )
    return client, store


def _addressing(endpoint: str, bucket: str, virtual: bool) -> "S3Config":
    if not virtual:
        return {"aws_endpoint_url_s3": endpoint, "virtual_hosted_style_request": False}
    parts = urlsplit(endpoint)
    return {
        "aws_endpoint_url_s3": parts._replace(netloc=f"{bucket}.{parts.netloc}").geturl(),
        "virtual_hosted_style_request": True,
    }


def _pem(path: str) -> bytes:
    try:
        certificates = Path(path).read_bytes()
        wrong = "" if b"-----BEGIN CERTIFICATE-----" in certificates else "no certificate in it"
    except OSError as error:
        wrong = error.strerror or str(error)
    if wrong:
        told = f"cannot use the CA bundle {path!r} ({wrong}): set AWS_CA_BUNDLE to a PEM file"
        raise StorageError(ErrorCode.STORAGE_ERROR, told)
    return certificates
