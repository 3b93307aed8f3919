"""Azure Blob Storage."""

from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import format_datetime, parsedate_to_datetime
from urllib.parse import quote, unquote, urlencode

from moderation.storage import azure_client
from moderation.storage.backend import StoredObject
from moderation.storage.entity_tags import entity_tag
from moderation.storage.http_client import Answer
from moderation.storage.own_listing import ListedPage, OwnListingBackend

_VERSION = "2021-12-02"
"""of the service's interface; from 2021-02-12 on, names that XML cannot hold come escaped"""


LISTED_AT_ONCE = 5000
"""objects of one page, as many as the service gives"""


class AzureBackend(OwnListingBackend):
    """One container, listed by https://learn.microsoft.com/rest/api/storageservices/list-blobs ."""

    ordered = False
    """Flat accounts list by name, but not by its UTF-8 bytes; accounts with folders list folder by folder."""

    def __init__(self, container: str, connections: int) -> None:
        access = azure_client.connect(container, connections)
        super().__init__(f"az://{container}", access.store, access.http)
        self._key, self._sas, self._token = access.key, access.sas, access.token
        self._container_url = f"{access.http.endpoint}/{quote(container, safe='')}"

    def _url(self, key: str) -> str:
        # Slashes are escaped as well, so that nothing on the way can read a path into the key.
        return f"{self._container_url}/{quote(key, safe='')}"

    def _send(self, method: str, url: str, headers: Mapping[str, str]) -> Answer:
        signed = {**headers, "x-ms-version": _VERSION, "x-ms-date": format_datetime(datetime.now(UTC), usegmt=True)}
        if self._key is not None:
            signed["authorization"] = self._key.authorization(method, url, signed)
        elif self._token is not None:
            signed["authorization"] = f"Bearer {self._token()['token']}"
        elif self._sas:
            url = f"{url}{'&' if '?' in url else '?'}{self._sas}"
        return self._http.send(method, url, signed)

    def _page(self, prefix: str, after: str, token: str) -> ListedPage:  # noqa: ARG002 - the service begins at its start
        asked = {"restype": "container", "comp": "list", "maxresults": str(LISTED_AT_ONCE), "include": "metadata"}
        if prefix:
            asked["prefix"] = prefix
        if token:
            asked["marker"] = token
        answer = self._send("GET", f"{self._container_url}?{urlencode(asked, quote_via=quote)}", {})
        page = self._listing(answer, "EnumerationResults")
        if page.find("NextMarker") is None:
            raise self._no_page()
        objects: list[StoredObject] = []
        folders = 0
        for item in page.iter("Blob"):
            properties, name = item.find("Properties"), item.find("Name")
            if properties is None or name is None or not name.text:
                raise self._no_page()
            key = name.text
            if name.get("Encoded") == "true":
                key = unquote(key, errors="backslashreplace")
            folder = properties.findtext("ResourceType") == "directory" or item.findtext("Metadata/hdi_isfolder") == "true"
            size = int(properties.findtext("Content-Length") or "")
            modified = parsedate_to_datetime(properties.findtext("Last-Modified") or "").astimezone(UTC)
            if folder and size == 0:
                folders += 1
            else:
                objects.append(StoredObject(key, entity_tag(properties.findtext("Etag") or ""), size, modified))
        return ListedPage(objects, answer.body.count(b"<Blob>") - folders, page.findtext("NextMarker") or "")
