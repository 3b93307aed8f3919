"""Object storage behind one small interface. The only place that knows obstore, boto3, and the sign-in of Google and Azure.

`Store` is what the rest of the program uses; the scheme of its URI picks the implementation.
"""

from moderation.storage.raw_names import file_uri, local_path
from moderation.storage.store import Census, Skipped, Store, StoredObject, scheme_of

__all__ = ["Census", "Skipped", "Store", "StoredObject", "file_uri", "local_path", "scheme_of"]
