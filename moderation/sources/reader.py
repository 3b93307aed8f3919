"""Reading the objects that sources name, in the actors."""

from dataclasses import dataclass

from moderation.errors import ErrorCode, StorageError
from moderation.records import ObjectRef
from moderation.storage import Store, scheme_of


@dataclass(frozen=True)
class ObjectReader:
    """Reads objects of folders, and those that manifests name. Travels to actors.

    Links in folders are followed to files inside the folder only. A manifest in a bucket cannot name files of this machine:
    whoever may write it need not be one who may read them.
    """

    folders: tuple[Store, ...] = ()
    manifests: bool = False
    """whether objects outside the folders may be read"""
    local_files: bool = False
    """whether manifests may name files of this machine"""
    connections: int = 16
    """reads at a time"""

    def read(self, item: ObjectRef) -> bytes:
        """The object at the version that was listed. Raises `StorageError`, or `StoreDownError` if continuing is pointless."""
        store, key = self._locate(item.uri)
        here = item._replace(uri=store.uri_of(key))
        return store.watched(lambda patience: store.read(here, patience))

    def get(self, uri: str, etag: str) -> bytes:
        """The object at one version. Raises `StorageError`."""
        store, key = self._locate(uri)
        return store.get(key, etag)

    def look_up(self, uri: str) -> ObjectRef:
        """The object as a listing would return it. Raises `StorageError`, or `StoreDownError` if continuing is pointless."""
        store, key = self._locate(uri)
        return store.watched(lambda patience: store.head(key, patience))._replace(uri=uri)

    def _locate(self, uri: str) -> tuple[Store, str]:
        for folder in self.folders:
            if uri.startswith(f"{folder.uri}/"):
                return folder, folder.key_of(uri)
        if not self.manifests:
            raise StorageError(ErrorCode.ACCESS_DENIED, f"{uri!r} is not in the source")
        if scheme_of(uri) == "file" and not self.local_files:
            raise StorageError(ErrorCode.ACCESS_DENIED, "a manifest in a bucket cannot name files of this machine")
        return Store.locate(uri, self.connections)
