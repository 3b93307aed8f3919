"""Whether a file holds weights, and what it is if not: said in one line, before anything else reads it.

Nothing in it is run: safetensors by their header, torch's own formats with `weights_only`.
"""

import errno
import os
import stat
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from moderation.errors import ModelError
from moderation.policy.model_choice import HUB, LOCAL_DIR

CONVERT = "if you trust it, convert it to safetensors: docs/policies.md says how"
_BROKEN = "it may be incomplete: copy it again"
_HEAD = 1024
_ARCHIVES = {
    b"\x1f\x8b": "gzip",
    b"BZh": "bzip2",
    b"\xfd7zXZ": "xz",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"7z\xbc\xaf": "7z",
    b"Rar!": "RAR",
}
_FOREIGN = {b"\x89HDF": "HDF5 (Keras)", b"GGUF": "GGUF", b"\x08\x07\x12": "ONNX", b"\x08\x08\x12": "ONNX"}

Shapes = Mapping[str, tuple[int, ...]]
"""Of the tensors of a checkpoint, by name."""


def checkpoint_shapes(path: Path, label: str, key: str = "pretrained") -> Shapes:
    """The tensors of a checkpoint as open_clip will name them; numbers and texts beside them are left out.

    Args:
        path: the file.
        label: what the policy calls it, for messages.
        key: of the policy's `model`, the one that names it.

    Raises:
        ModelError: it is no checkpoint that can be read; one line with what it is, and what to do.
    """

    def refused(what: str, hint: str) -> ModelError:
        return ModelError(f"the checkpoint {label} {what}", hint, key=key)

    head, size = _head(path, label, refused)
    suffix = path.suffix.lower()
    if suffix in (".npz", ".npy"):  # big_vision's, which open_clip converts
        return {}
    if int.from_bytes(head[:8], "little") <= size - 8 and head[8:9] == b"{":
        if suffix != ".safetensors":
            raise refused("contains safetensors but has another extension", "rename it to end in .safetensors")
        return _of_safetensors(path, refused)
    if suffix == ".safetensors":
        if head.startswith(b"PK\x03\x04"):
            _check_zip(path, refused)
        raise refused(*_what_else(head, "not a safetensors file, or one that is cut off"))
    if head.startswith(b"PK\x03\x04"):
        _check_zip(path, refused)
    elif not head.startswith(b"\x80"):
        raise refused(*_what_else(head, "not in a supported format"))
    return _of_torch(path, head.startswith(b"PK"), refused)


def _head(path: Path, label: str, refused: Any) -> tuple[bytes, int]:
    """The beginning of a regular file, and its size."""
    try:
        found = os.stat(path)  # noqa: PTH116 - Path's own questions hide some errors
        if stat.S_ISDIR(found.st_mode):
            raise refused(
                "is a folder",
                "name the file in it; or `name: local-dir:FOLDER`, without `pretrained`, if it holds open_clip_config.json",
            )
        if not stat.S_ISREG(found.st_mode):
            raise refused("is not a regular file", "name a file with weights")
        if found.st_size == 0:
            raise refused("is empty", _BROKEN)
        with open(path, "rb") as file:
            return file.read(_HEAD), found.st_size
    except FileNotFoundError:
        raise refused(f"does not exist: {path}", _where_else(path, label)) from None
    except (OSError, ValueError) as error:
        reason = (getattr(error, "strerror", None) or str(error)).lower()
        denied = getattr(error, "errno", None) == errno.EACCES
        hint = "allow the user who runs this to read it" if denied else "is the path right?"
        raise refused(f"cannot be read ({reason})", hint) from None


def _where_else(path: Path, label: str) -> str:
    """What to say of a missing file: a relative path used to be relative to the current folder."""
    if not os.path.isabs(label) and os.path.isfile(label):  # noqa: PTH113, PTH117 - which raise nothing
        meant = os.path.relpath(label, str(path)[: -len(label)] or ".")
        return f"a relative path is relative to the policy's file: write {meant}"
    if label.startswith((HUB, LOCAL_DIR)):
        return f"give this as the model's name, without `pretrained`: name: {label}"
    if label.startswith("$"):
        return "variables are not expanded: write the full path, or one that starts with ~/"
    return (
        "a relative path is relative to the policy's file, on the command line to the current folder; "
        "where Ray runs on several machines, the file must lie on each"
    )


def _what_else(head: bytes, otherwise: str) -> tuple[str, str]:
    """What a file is by its beginning, and what to do."""
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if head.startswith(b"version https://git-lfs"):
        return "is a pointer of Git LFS, not the weights", "fetch them with `git lfs pull`"
    if text.startswith((b"<!doctype html", b"<html", b"<head", b"<?xml", b"<error")):
        return "is a web page or a server's error message, not the weights", "download it again, and check its content"
    if head.startswith(b"PK\x03\x04"):
        return "is a zip archive with the extension .safetensors", "if it comes from torch.save, rename it to end in .pt"
    if head.startswith(b"\x80"):
        return "is a pickle with the extension .safetensors", "if it comes from torch.save, rename it to end in .pt"
    for magic, name in _ARCHIVES.items():
        if head.startswith(magic):
            return f"is a {name} archive", "unpack it first"
    if head[257:262] == b"ustar":
        return "is a tar archive", "unpack it first"
    for magic, name in _FOREIGN.items():
        if head.startswith(magic):
            return f"is a file of {name}", "get the weights for open_clip, as safetensors or from torch.save"
    if all(byte in b"\t\r\n" or 32 <= byte < 127 for byte in head):
        return "is a text file, not weights", "download it again, and check its content"
    return f"is {otherwise}", f"{_BROKEN}; safetensors and files of torch.save are supported"


def _of_safetensors(path: Path, refused: Any) -> Shapes:
    try:
        with safe_open(path, framework="pt") as file:
            shapes = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118 - no mapping
    except (SafetensorError, OSError, ValueError) as error:
        raise refused(f"is damaged or cut off ({_short(error)})", _BROKEN) from None
    if not shapes:
        raise refused("contains no tensors", "is it the right file?")
    return _as_loaded(shapes, refused)


def _check_zip(path: Path, refused: Any) -> None:
    """Tell what torch.save writes from other zip archives."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        raise refused("is damaged or cut off: its table of contents is missing", _BROKEN) from None
    if any(name.endswith("/constants.pkl") or "/code/" in name for name in names):
        raise refused("is a TorchScript archive: a program with its weights, which is never run here", CONVERT)
    if names and all(name.endswith(".npy") for name in names):
        raise refused("is an archive of NumPy arrays", "if it is big_vision's, rename it to end in .npz")
    if not any(name.endswith("data.pkl") for name in names):
        raise refused(
            "is a zip archive, but not a torch checkpoint", "is it the right file? If it contains weights, unpack them"
        )


def _of_torch(path: Path, zipped: bool, refused: Any) -> Shapes:
    try:
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=zipped)
    except MemoryError:
        raise refused("does not fit into memory", "use a machine with more memory") from None
    except Exception as error:  # noqa: BLE001 - torch and pickle raise what they meet in a strange file
        if "weights_only" in str(error) or "eights only" in str(error):
            raise refused("contains more than weights, and its code is never run here", CONVERT) from None
        raise refused(f"is damaged or cut off ({_short(error)})", _BROKEN) from None
    if isinstance(content, Mapping) and isinstance(content.get("state_dict"), Mapping):
        content = content["state_dict"]
    if not isinstance(content, Mapping):
        raise refused(f"holds a {type(content).__name__}, not weights by name", "save `model.state_dict()`")
    shapes = {str(name): tuple(value.shape) for name, value in content.items() if isinstance(value, torch.Tensor)}
    if not shapes or len(shapes) < len(content):
        listed = ", ".join(sorted(str(name) for name in content if str(name) not in shapes)[:5])
        nested = [str(name) for name, value in content.items() if isinstance(value, Mapping)]
        hint = f"are the weights under {nested[0]!r}? " if nested else ""
        raise refused(
            f"contains something other than weights by name ({listed or 'nothing'})",
            f"{hint}Save `model.state_dict()` by itself, or under the key `state_dict`",
        )
    return _as_loaded(shapes, refused)


def _as_loaded(shapes: Mapping[str, tuple[int, ...]], refused: Any) -> Shapes:
    """Without the prefix that training on several GPUs adds, as open_clip loads it."""
    first = next(iter(shapes))
    if first.startswith("module"):
        return {name[7:]: shape for name, shape in shapes.items()}
    if first.startswith("_orig_mod."):
        raise refused(
            "contains the weights of a model that torch.compile wrapped (_orig_mod.)", "save the model's own state_dict"
        )
    return shapes


def _short(error: BaseException) -> str:
    text = " ".join(str(error).split())[:160]
    return text.partition(". ")[0] or type(error).__name__
