"""Google Cloud Storage, by its XML API, which is what obstore speaks too: both see the same entity tags."""

from collections.abc import Mapping
from datetime import UTC, datetime
from urllib.parse import quote, unquote, urlencode

from moderation.storage import gcs_client
from moderation.storage.backend import StoredObject
from moderation.storage.entity_tags import entity_tag
from moderation.storage.http_client import Answer
from moderation.storage.own_listing import ListedPage, OwnListingBackend


class GcsBackend(OwnListingBackend):
    """One bucket, listed by https://cloud.google.com/storage/docs/xml-api/get-bucket-list ."""

    def __init__(self, bucket: str, connections: int) -> None:
        access = gcs_client.connect(bucket, connections)
        super().__init__(f"gs://{bucket}", access.store, access.http)
        self.ordered = access.http.endpoint.endswith(".googleapis.com")  # others that speak its language promise nothing
        self._token, self._project = access.token, access.project
        self._bucket_url = f"{access.http.endpoint}/{quote(bucket, safe='')}"

    def _url(self, key: str) -> str:
        # Slashes and dots are escaped as well, as obstore does: nothing on the way can read a path into the key.
        return f"{self._bucket_url}/{quote(key, safe='').replace('.', '%2E')}"

    def _send(self, method: str, url: str, headers: Mapping[str, str]) -> Answer:
        signed = dict(headers)
        if self._token is not None:
            signed["authorization"] = f"Bearer {self._token()['token']}"
        if self._project:
            signed["x-goog-user-project"] = self._project
        return self._http.send(method, url, signed)

    def _page(self, prefix: str, after: str, token: str) -> ListedPage:
        asked = {"list-type": "2", "max-keys": "1000", "encoding-type": "url"}
        if prefix:
            asked["prefix"] = prefix
        if token:
            asked["continuation-token"] = token
        elif after and self.ordered:
            asked["start-after"] = after
        page = self._listing(
            self._send("GET", f"{self._bucket_url}?{urlencode(asked, quote_via=quote)}", {}), "ListBucketResult"
        )
        escaped = page.findtext("EncodingType") == "url"
        objects = []
        for item in page.iter("Contents"):
            key, modified = item.findtext("Key") or "", datetime.fromisoformat(item.findtext("LastModified") or "")
            objects.append(
                StoredObject(
                    unquote(key, errors="backslashreplace") if escaped else key,
                    entity_tag(item.findtext("ETag") or ""),
                    int(item.findtext("Size") or ""),
                    modified.astimezone(UTC),
                )
            )
        more = page.findtext("NextContinuationToken") or ""
        if page.findtext("IsTruncated") == "true" and not more:
            raise self._no_page()
        return ListedPage(objects, int(page.findtext("KeyCount") or len(objects)), more)
