"""boto3's exceptions as ours."""

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from botocore import exceptions as aws
from botocore.parsers import ResponseParserError

from moderation.common.secrets import redacted
from moderation.errors import ErrorCode, StorageError
from moderation.storage.answers import UNFIT_FOR_HEADER, WRONG_REGION, failed, no_credentials, one_line, untrusted
from moderation.storage.retrying import TransientError
from moderation.storage.s3_credentials import broken_credentials

# RuntimeError: credentials that were renewed are expired still. The last four: files and programs that a profile names.
AWS_ERRORS = (
    *(aws.ClientError, aws.BotoCoreError, ResponseParserError, RuntimeError, ValueError),
    *(OSError, AttributeError, TypeError, KeyError),
)

_PASSING = (
    aws.HTTPClientError,
    aws.ConnectionError,
    aws.IncompleteReadError,
    aws.CredentialRetrievalError,
    aws.MetadataRetrievalError,
    ResponseParserError,
)
_SIGN_IN = (
    aws.NoCredentialsError,
    aws.PartialCredentialsError,
    aws.NoAuthTokenError,
    aws.TokenRetrievalError,
    aws.SSOError,
    RuntimeError,
)


def translated(error: Exception, endpoint: str) -> StorageError:
    """One line with a code. `endpoint` is the URL that was asked."""
    if isinstance(error, aws.ClientError):
        return _answered(error)
    if isinstance(error, ConnectionError | TimeoutError) and not isinstance(error, aws.BotoCoreError):
        return TransientError(ErrorCode.STORAGE_ERROR, one_line(str(error)))
    if isinstance(error, OSError | AttributeError | TypeError | KeyError) and not isinstance(error, aws.BotoCoreError):
        return broken_credentials(error)
    line, endpoint = one_line(str(error)), redacted(endpoint)
    if isinstance(error, aws.SSLError) and "CERTIFICATE_VERIFY_FAILED" in line:
        return untrusted(endpoint, line.rpartition("failed: ")[2].partition(" (_ssl")[0])
    if isinstance(error, aws.EndpointConnectionError | aws.ConnectTimeoutError | aws.ProxyConnectionError):
        # Of "HTTPConnection(host=...): Failed to establish a new connection: [Errno 111] Connection refused", the end.
        cause = str(error.kwargs.get("error", ""))
        reason = cause.rpartition("] ")[2].rstrip(")") if "] " in cause else "timed out"
        text = f"cannot reach {endpoint} ({reason}): check AWS_ENDPOINT_URL and the network"
        return TransientError(ErrorCode.STORAGE_ERROR, text)
    if isinstance(error, _SIGN_IN) or UNFIT_FOR_HEADER in line:
        return no_credentials(line)
    return (TransientError if isinstance(error, _PASSING) else StorageError)(ErrorCode.STORAGE_ERROR, line)


def is_wrong_region(status: int, code: str) -> bool:
    """Whether an answer says that the bucket lies in another region."""
    return code in WRONG_REGION or status in (301, 302, 307)


def _answered(error: aws.ClientError) -> StorageError:
    answer = error.response.get("Error", {})
    about = error.response.get("ResponseMetadata", {})
    status, headers = about.get("HTTPStatusCode", 0), about.get("HTTPHeaders", {})
    code = answer.get("Code", "")
    if is_wrong_region(status, code):
        region = headers.get("x-amz-bucket-region") or answer.get("Region")
        if region:
            return StorageError(ErrorCode.ACCESS_DENIED, f"the bucket is in the region {region}: set AWS_REGION={region}")
        return failed(status, "PermanentRedirect", "")
    if code == "RequestTimeTooSkewed" and "date" in headers:
        return StorageError(ErrorCode.ACCESS_DENIED, f"{_skew(headers['date'])}: correct it ({code})")
    said = answer.get("Message") or ""
    return failed(status, code, one_line(f"{error.operation_name}: {said or 'failed'} ({code or status})"), said)


def _skew(date: str) -> str:
    seconds = (datetime.now(UTC) - parsedate_to_datetime(date)).total_seconds()
    return f"this machine's clock is {abs(seconds) / 60:.0f} minutes {'ahead' if seconds > 0 else 'behind'}"
