"""Requests of our own to a store, for what obstore cannot express: pages of a listing, and keys that are no paths."""

from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import urllib3
from urllib3 import exceptions as failures

from moderation.errors import ErrorCode, StorageError
from moderation.storage.answers import one_line
from moderation.storage.cloud_answers import Service, unreachable, untrusted
from moderation.storage.retrying import CONNECT_TIMEOUT, READ_TIMEOUT, TransientError


class Answer(NamedTuple):
    """What a store answered."""

    status: int
    headers: Mapping[str, str]
    """their names in any case"""
    body: bytes


class HttpClient:
    """Connections to one endpoint, for `connections` threads. `setting` is the variable that names the endpoint.

    Authorities come from `SSL_CERT_FILE`, or are the system's; proxies from `HTTPS_PROXY` and its kin.
    """

    def __init__(self, service: Service, endpoint: str, connections: int, setting: str) -> None:
        self.service, self.endpoint, self.setting = service, endpoint, setting
        parts = urlsplit(endpoint)
        proxies = getproxies()
        proxy = proxies.get(parts.scheme) or proxies.get("all")
        timeout = urllib3.Timeout(connect=CONNECT_TIMEOUT, read=READ_TIMEOUT)
        if proxy and not proxy_bypass(parts.hostname or ""):
            self.pool: urllib3.PoolManager = urllib3.ProxyManager(
                proxy, maxsize=connections, timeout=timeout, retries=False, num_pools=4
            )
        else:
            self.pool = urllib3.PoolManager(maxsize=connections, timeout=timeout, retries=False, num_pools=4)

    def send(self, method: str, url: str, headers: Mapping[str, str]) -> Answer:
        """One request, without trying again. Raises `StorageError` where no answer comes; any status is an answer."""
        try:
            answer = self.pool.request(method, url, headers=dict(headers), redirect=False, decode_content=False)
        except failures.SSLError as error:
            reason = str(error)
            if "CERTIFICATE_VERIFY_FAILED" in reason:
                cause = reason.rpartition("failed: ")[2].partition(" (_ssl")[0]
                raise untrusted("/".join(self.endpoint.split("/")[:3]), cause) from None
            raise unreachable(self.setting, self.endpoint, one_line(reason)) from None
        except (failures.NameResolutionError, failures.NewConnectionError, failures.ConnectTimeoutError) as error:
            raise unreachable(self.setting, self.endpoint, _reason(error)) from None
        except failures.ProxyError as error:
            raise unreachable(self.setting, self.endpoint, f"the proxy: {_reason(error)}") from None
        except (failures.LocationParseError, failures.LocationValueError) as error:
            raise StorageError(ErrorCode.STORAGE_ERROR, f"cannot use {self.endpoint}: {one_line(str(error))}") from None
        except failures.HTTPError as error:
            raise TransientError(ErrorCode.STORAGE_ERROR, f"{method} at {self.endpoint}: {one_line(str(error))}") from None
        return Answer(answer.status, answer.headers, answer.data)


def _reason(error: Exception) -> str:
    """Of "HTTPConnection(host=...): Failed to establish a new connection: [Errno 111] Connection refused", the end."""
    text = str(error)
    if "timed out" in text:
        return "timed out"
    return one_line(text.rpartition("] ")[2].rstrip(")")) if "] " in text else one_line(text.partition(": ")[2] or text)
