"""Access to S3: credentials, region, endpoint and certificates, from where every AWS tool reads them."""

import contextlib
import os
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import boto3
import botocore.session
from botocore import UNSIGNED
from botocore.config import Config
from botocore.utils import parse_timestamp
from obstore.store import S3Store

from moderation.errors import ErrorCode, StorageError
from moderation.storage.cloud import RETRIES, client_options
from moderation.storage.retrying import CONNECT_TIMEOUT, READ_TIMEOUT
from moderation.storage.s3_addresses import access_point
from moderation.storage.s3_credentials import CheckedCredentialProvider, check_credentials, is_set

if TYPE_CHECKING:
    from botocore.awsrequest import AWSPreparedRequest
    from mypy_boto3_s3 import S3Client
    from obstore.store import S3Config

# botocore renews what lives less than ten minutes more; for longer, nobody may keep what it gave.
_CREDENTIALS_LIFE = timedelta(minutes=10)

DIRECTORY_BUCKET = "--x-s3"
"""how the names of S3 Express's buckets end"""


def connect(bucket: str, connections: int) -> tuple["S3Client", S3Store]:
    """Clients of boto3 and obstore with the same settings, each for `connections` threads. Nothing is sent yet.

    Beside what AWS tools know, AWS_NO_SIGN_REQUEST (or AWS_SKIP_SIGNATURE) reads public buckets without credentials, and
    AWS_REQUEST_PAYER=requester pays for what is read.

    Raises:
        StorageError: there are no credentials, or they cannot be used, or there is no such CA bundle.
        BotoCoreError, ValueError: a setting cannot be used.
    """
    point = access_point(bucket)
    anonymous = is_set("AWS_NO_SIGN_REQUEST") or is_set("AWS_SKIP_SIGNATURE")
    pays = is_set("AWS_REQUEST_PAYER")
    settings = botocore.session.get_session()
    settings.get_component("response_parser_factory").set_parser_defaults(timestamp_parser=_time)
    # botocore knows AWS_DEFAULT_REGION only; all other tools, AWS_REGION before it.
    session = boto3.Session(botocore_session=settings, region_name=os.environ.get("AWS_REGION") or None)
    if not anonymous:
        check_credentials(session)
    client: S3Client = session.client(
        "s3",
        config=Config(
            connect_timeout=CONNECT_TIMEOUT,
            read_timeout=READ_TIMEOUT,
            retries={"mode": "standard", "total_max_attempts": 1},
            max_pool_connections=connections,
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            **({"signature_version": UNSIGNED} if anonymous else {}),
        ),
    )
    if pays:
        client.meta.events.register_first("before-sign.s3", _pay)
    endpoint = client.meta.endpoint_url
    options = client_options(connections)
    options["allow_http"] = endpoint.startswith("http://")
    authorities = settings.get_config_variable("ca_bundle") or os.environ.get("REQUESTS_CA_BUNDLE")
    if authorities:
        options["root_certificate"] = _pem(authorities)
    in_config = settings.get_config_variable("s3")
    style = in_config.get("addressing_style") if isinstance(in_config, dict) else None
    if point is not None:
        own = None if is_aws(endpoint) else endpoint
        config: S3Config = {"aws_endpoint_url_s3": point.endpoint(own), "virtual_hosted_style_request": True}
    elif bucket.endswith(DIRECTORY_BUCKET) and is_aws(endpoint):
        config = {"s3_express": True}
    else:
        config = _addressing(endpoint, bucket, virtual=style == "virtual")
    config["region"] = point.region if point is not None else client.meta.region_name or "us-east-1"
    config["disable_bulk_delete"] = True  # not every store has it
    config["skip_signature"] = anonymous
    config["request_payer"] = pays
    if not anonymous:
        provider = CheckedCredentialProvider(session, ttl=_CREDENTIALS_LIFE)
        return client, S3Store(
            bucket, config=config, client_options=options, retry_config=RETRIES, credential_provider=provider
        )
    return client, S3Store(bucket, config=config, client_options=options, retry_config=RETRIES)


def is_aws(endpoint: str) -> bool:
    """Whether an endpoint is Amazon's."""
    return (urlsplit(endpoint).hostname or "").endswith((".amazonaws.com", ".amazonaws.com.cn"))


def _time(value: str) -> datetime:
    """A time of an answer. botocore's own parser, which takes any form, is half of what listing an object costs."""
    if value.endswith("Z") and "T" in value:
        with contextlib.suppress(ValueError):
            return datetime.fromisoformat(value)
    found: datetime = parse_timestamp(value)
    return found


def _pay(request: "AWSPreparedRequest", **_: object) -> None:
    request.headers["x-amz-request-payer"] = "requester"


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
        text = f"cannot use the CA bundle {path!r} ({wrong}): set AWS_CA_BUNDLE to a PEM file"
        raise StorageError(ErrorCode.STORAGE_ERROR, text)
    return certificates
