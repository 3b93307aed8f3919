"""JPEGs decoded on a GPU by nvJPEG, and resized there, so that pixels reach the host as small as the model wants them.

    decode threads ─► structure checked ─► groups ─► nvJPEG ─► upright ─► resize, crop ─► one copy to the host
                            └─ not plain ─► None: Pillow

It pays on GPUs with a JPEG engine (A100, A30, H100, H200 and later) and with many decode threads, say 64: they do little but
wait, and those that wait together are served together. On other GPUs nvJPEG's software decodes one file after the other.
A file whose data are damaged inside a sound structure looks as nvJPEG leaves it, which need not be what libjpeg makes of it.
"""

import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from PIL import Image
from torchvision.io import ImageReadMode, decode_jpeg  # type: ignore[import-untyped]

from moderation.errors import ModelError
from moderation.model.encoder import Encoder
from moderation.model.gpu_jpeg.grouping import Grouped
from moderation.model.gpu_jpeg.plain_jpeg import plain_jpeg
from moderation.model.gpu_jpeg.resizing import Span, grey, resize, upright
from moderation.model.gpu_jpeg.self_check import difference
from moderation.model.jpeg_decoder import DecoderCounts, ReadyPicture
from moderation.model.preprocessing import MAX_ASPECT, Preprocessing

_log = logging.getLogger(__name__)

SMALL_SIDE = 512
"""Pixels: what `pdq` reduces larger pictures to, as its paper advises."""
MIN_SIDE = 64
"""Pixels. Smaller pictures are left to Pillow: they cost it nothing, and JPEG engines do not take them."""
MAX_PIXELS = 40_000_000
"""Of a group, and of a picture: 40 megapixels take about a gigabyte on the device, most of it as float32."""
MAX_GROUP = 64

Decode = Callable[[list[torch.Tensor], torch.device], Sequence[torch.Tensor]]


def decode_group(files: list[torch.Tensor], device: torch.device) -> Sequence[torch.Tensor]:
    """uint8 [bytes] each, on the host, to RGB uint8 [3, H, W] each, on the device. RuntimeError if one cannot be decoded.

    On a CUDA device that is nvJPEG; on the CPU it is libjpeg, so that everything else can be tried without a GPU.
    """
    pictures: list[torch.Tensor] = decode_jpeg(files, mode=ImageReadMode.RGB, device=device)
    return pictures


class GpuJpegDecoder:
    """A `JpegDecoder` on one device. Many threads ask, and those that wait at the same time are served together.

    At the start it is compared with Pillow on a few pictures. If it differs too much, `refused` says how, one line of log
    says so, and every file goes to Pillow.

    Args:
        preprocessing: the model's.
        encoder: compares embeddings at the start; without one, pixels only are compared.
        device: a CUDA device, or `cpu` to try everything but nvJPEG.
        decode: how a group of files becomes pictures.

    Raises:
        ModelError: no CUDA device where one was asked for.
    """

    def __init__(
        self,
        preprocessing: Preprocessing,
        encoder: Encoder | None = None,
        *,
        device: str = "cuda",
        decode: Decode = decode_group,
    ) -> None:
        self._device = torch.device(device)
        if self._device.type == "cuda" and not torch.cuda.is_available():
            raise ModelError("JPEG decoder `gpu` was requested, but torch sees no CUDA device here: use `cpu`, or a GPU node")
        self._preprocessing = preprocessing
        self._decode = decode
        cuda = self._device.type == "cuda"
        self._stream = torch.cuda.Stream(self._device) if cuda else None  # type: ignore[no-untyped-call]
        self._lock = threading.Lock()
        self._counts = DecoderCounts()
        self._grouped = Grouped(self._work, _File.pixels, count=MAX_GROUP, limit=MAX_PIXELS, name="gpu-jpeg")
        self.refused: str | None = None
        self.refused = difference(self.decode, preprocessing, encoder)
        self._counts = DecoderCounts()
        if self.refused:
            self.close()
            _log.warning("JPEGs are decoded by Pillow, not on %s: %s", self._device, self.refused)

    @property
    def counts(self) -> DecoderCounts:
        """What became of the files so far."""
        with self._lock:
            return self._counts

    def close(self) -> None:
        """End the thread. Files that come later go to Pillow."""
        self._grouped.close()

    def decode(self, data: bytes, orientation: int = 1) -> ReadyPicture | None:
        """As in `JpegDecoder`; waits for its turn."""
        file = None if self.refused else _file(data, orientation)
        found = self._grouped.do(file) if file else None
        with self._lock:
            before = self._counts
            if found:
                self._counts = replace(before, decoded=before.decoded + 1)
            elif file:
                self._counts = replace(before, failed=before.failed + 1)
            else:
                self._counts = replace(before, passed_on=before.passed_on + 1)
        return found

    def _work(self, files: list["_File"]) -> list[ReadyPicture | None]:
        """All together, or one by one if that fails: torchvision does not say which file it failed on."""
        try:
            return list(self._together(files))
        except RuntimeError:
            return [None] if len(files) == 1 else [self._work([file])[0] for file in files]

    @torch.inference_mode()
    def _together(self, files: list["_File"]) -> list[ReadyPicture | None]:
        # nvJPEG writes on a stream of its own into memory of ours: nothing of ours may still be running when it begins. So
        # it is: the copy at the end waits for all that was done before.
        with torch.cuda.stream(self._stream):
            pictures = self._decode([torch.frombuffer(file.data, dtype=torch.uint8) for file in files], self._device)
            parts = [part for file, picture in zip(files, pictures, strict=True) for part in self._parts(file, picture)]
            flat = torch.cat([part.reshape(-1) for part in parts]).cpu().numpy()
        ends = np.cumsum([part.numel() for part in parts])
        arrays = [flat[end - part.numel() : end].reshape(part.shape) for part, end in zip(parts, ends, strict=True)]
        return [
            # The group's memory lives on only until the small pictures are done with.
            ReadyPicture(crop.copy(), Image.fromarray(small))
            for crop, small in zip(arrays[::2], arrays[1::2], strict=True)
        ]

    def _parts(self, file: "_File", picture: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """What is wanted of a picture, uint8: the model's crop [S, S, 3], and the small grey one [h, w]."""
        if picture.shape != (3, file.height, file.width):
            raise RuntimeError("the decoder reports another size than the header")
        levels = upright(picture, file.orientation).to(torch.float32)
        height, width = levels.shape[1:]
        longest = max(width, height, SMALL_SIDE)
        across, down = (Span.whole(side, max(1, side * SMALL_SIDE // longest)) for side in (width, height))
        small = resize(grey(levels), across, down, "box")
        return self._crop(levels).permute(1, 2, 0).to(torch.uint8), small[0].to(torch.uint8)

    def _crop(self, levels: torch.Tensor) -> torch.Tensor:
        """`Preprocessing` of an upright picture: levels [3, S, S]."""
        prepare = self._preprocessing
        height, width = levels.shape[1:]
        resized = prepare.resized((width, height))
        across, left = _centred(width, resized[0], prepare.size)
        down, top = _centred(height, resized[1], prepare.size)
        crop = resize(levels, across, down, prepare.interpolation)
        right, bottom = prepare.size - left - crop.shape[2], prepare.size - top - crop.shape[1]
        return torch.nn.functional.pad(crop, (left, right, top, bottom), value=prepare.fill)


@dataclass(frozen=True, slots=True)
class _File:
    data: bytearray
    """up to the end of the picture"""
    width: int
    height: int
    orientation: int

    def pixels(self) -> int:
        return self.width * self.height


def _file(data: bytes, orientation: int) -> _File | None:
    plain = plain_jpeg(data)
    if plain is None or plain.width * plain.height > MAX_PIXELS:
        return None
    short, long = sorted((plain.width, plain.height))
    if short < MIN_SIDE or long > MAX_ASPECT * short:
        return None
    return _File(bytearray(memoryview(data)[: plain.end]), plain.width, plain.height, orientation)


def _centred(length: int, resized: int, size: int) -> tuple[Span, int]:
    """One axis of the crop from the middle of a resized picture, padded to `size` first; and where it begins in the crop."""
    canvas = max(size, resized)
    start = round((canvas - size) / 2.0) - (canvas - resized) // 2
    low, high = max(0, start), min(resized, start + size)
    return Span(length, resized, low, high), low - start
