"""Which images may be shown to people: none that is on a restricted hash list. Every page and sheet asks here."""

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from moderation.policy.known_images import KnownImages

if TYPE_CHECKING:
    from moderation.results.stored_images import StoredImages

BYTE_HASHES = ("sha256", "md5")
"""Columns of decisions that hash lists are matched with, beside the hashes of frames."""
COLUMNS = ("list_matches", *BYTE_HASHES)
"""Columns of decisions that `may_show` and `may_show_under` look at; the latter at the hashes of frames as well."""


def may_show(decisions: pa.Table) -> NDArray[np.bool_]:
    """Bool [N]: whether nothing in decision rows speaks against showing the images.

    False of images that were on a restricted list when they were decided; the list may have been in shadow.
    """
    shown: NDArray[np.bool_] = np.ones(len(decisions), np.bool_)
    if "list_matches" not in decisions.column_names:  # since schema version 4
        return shown
    column = decisions["list_matches"].combine_chunks()
    matches = pc.list_flatten(column)
    if len(matches):
        image = np.asarray(pc.list_parent_indices(column), np.int64)
        shown[image[np.asarray(pc.struct_field(matches, "restricted"))]] = False
    return shown


def may_show_under(images: "StoredImages", known: KnownImages | None) -> NDArray[np.bool_]:
    """Bool [N]: the same of scored images, and that no restricted list of a policy matches them now.

    The images were read with `COLUMNS`, and with hashes if the policy has lists.
    """
    shown = may_show(images.scored)
    return shown & ~known.restricted(images.image_hashes) if known else shown
