"""libjxl through its C interface, which the wheel of `pylibjxl` brings along. It runs in the decoding process only.

The wheel's Python functions give the last frame of an animation, and pixels whose colours nobody names; hence the C ones.
https://libjxl.readthedocs.io/en/latest/api_decoder.html
"""

import ctypes
import mmap
from collections.abc import Iterator
from ctypes import POINTER, byref, c_char, c_double, c_float, c_int, c_size_t, c_uint32, c_void_p

from moderation.images.isolated.child import Order, write

_SUCCESS, _ERROR, _NEED_MORE_INPUT, _NEED_OUTPUT = 0, 1, 2, 5
_BASIC_INFO, _COLOUR_ENCODING, _FRAME, _FULL_IMAGE = 0x40, 0x100, 0x400, 0x1000
_ORIGINAL, _DATA = 0, 1
_RGBA = 4
_MAX_ICC = 4 << 20


class _BasicInfo(ctypes.Structure):
    _fields_ = (
        ("have_container", c_int),
        ("xsize", c_uint32),
        ("ysize", c_uint32),
        ("bits_per_sample", c_uint32),
        ("exponent_bits_per_sample", c_uint32),
        ("intensity_target", c_float),
        ("min_nits", c_float),
        ("relative_to_max_display", c_int),
        ("linear_below", c_float),
        ("uses_original_profile", c_int),
        ("have_preview", c_int),
        ("have_animation", c_int),
        ("orientation", c_int),
        ("num_color_channels", c_uint32),
        ("num_extra_channels", c_uint32),
        ("alpha_bits", c_uint32),
        ("alpha_exponent_bits", c_uint32),
        ("alpha_premultiplied", c_int),
        ("preview_and_animation", c_uint32 * 6),
        ("intrinsic_size", c_uint32 * 2),
        ("padding", c_char * 100),
    )


class _ExtraChannel(ctypes.Structure):
    _fields_ = (
        ("type", c_int),
        ("bits_per_sample", c_uint32),
        ("exponent_bits_per_sample", c_uint32),
        ("dim_shift", c_uint32),
        ("name_length", c_uint32),
        ("alpha_premultiplied", c_int),
        ("spot_color", c_float * 4),
        ("cfa_channel", c_uint32),
    )


class _Encoding(ctypes.Structure):
    _fields_ = (
        ("color_space", c_int),
        ("white_point", c_int),
        ("white_point_xy", c_double * 2),
        ("primaries", c_int),
        ("primaries_xy", c_double * 6),
        ("transfer_function", c_int),
        ("gamma", c_double),
        ("rendering_intent", c_int),
    )


class _PixelFormat(ctypes.Structure):
    _fields_ = (("num_channels", c_uint32), ("data_type", c_int), ("endianness", c_int), ("align", c_size_t))


_Allocate = ctypes.CFUNCTYPE(c_void_p, c_void_p, c_size_t)
_Free = ctypes.CFUNCTYPE(None, c_void_p, c_void_p)


class _MemoryManager(ctypes.Structure):
    _fields_ = (("opaque", c_void_p), ("alloc", _Allocate), ("free", _Free))


_FORMAT = _PixelFormat(_RGBA, 2, 0, 0)
_SRGB = 13
_VERSIONS = range(11_000, 12_000)
"""0.11: others have functions of the same names with other arguments."""


class BrokenJxlError(ValueError):
    """libjxl refuses the file."""


def load(path: str) -> ctypes.CDLL:
    """The library. Raises OSError or AttributeError if it is another."""
    library = ctypes.CDLL(path)
    encoding, info = POINTER(_Encoding), POINTER(_BasicInfo)
    for name, result, arguments in (
        ("JxlDecoderVersion", c_uint32, ()),
        ("JxlDecoderCreate", c_void_p, (POINTER(_MemoryManager),)),
        ("JxlDecoderSubscribeEvents", c_int, (c_void_p, c_int)),
        ("JxlDecoderSetInput", c_int, (c_void_p, c_void_p, c_size_t)),
        ("JxlDecoderCloseInput", None, (c_void_p,)),
        ("JxlDecoderProcessInput", c_int, (c_void_p,)),
        ("JxlDecoderGetBasicInfo", c_int, (c_void_p, info)),
        ("JxlDecoderGetExtraChannelInfo", c_int, (c_void_p, c_size_t, POINTER(_ExtraChannel))),
        ("JxlDecoderGetColorAsEncodedProfile", c_int, (c_void_p, c_int, encoding)),
        ("JxlDecoderGetICCProfileSize", c_int, (c_void_p, c_int, POINTER(c_size_t))),
        ("JxlDecoderGetColorAsICCProfile", c_int, (c_void_p, c_int, c_void_p, c_size_t)),
        ("JxlDecoderSetPreferredColorProfile", c_int, (c_void_p, encoding)),
        ("JxlDecoderSetUnpremultiplyAlpha", c_int, (c_void_p, c_int)),
        ("JxlDecoderSetImageOutBuffer", c_int, (c_void_p, POINTER(_PixelFormat), c_void_p, c_size_t)),
        ("JxlDecoderSkipFrames", None, (c_void_p, c_size_t)),
    ):
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    version = library.JxlDecoderVersion()
    if version not in _VERSIONS:
        raise OSError(f"libjxl {version // 1_000_000}.{version // 1000 % 1000} has another interface than 0.11")
    return library


def decode(library: ctypes.CDLL, order: Order, data: mmap.mmap) -> dict[str, object]:
    """A header's facts, or those of the frames, whose pixels are in the output: RGBA, one after the other."""
    source = (c_char * len(data)).from_buffer_copy(data)
    decoder = _Decoder(library, source)
    return decoder.header() if order.task == "jxl_header" else decoder.frames(order)


class _Decoder:
    """One pass over a file."""

    def __init__(self, library: ctypes.CDLL, source: "ctypes.Array[c_char]") -> None:
        self._library = library
        self._no_memory = False
        system = ctypes.CDLL(None)
        system.malloc.restype, system.malloc.argtypes = c_void_p, (c_size_t,)
        system.free.restype, system.free.argtypes = None, (c_void_p,)

        def allocate(_: int | None, size: int) -> int | None:
            found: int | None = system.malloc(size)
            self._no_memory = self._no_memory or not found
            return found

        self._memory = _MemoryManager(None, _Allocate(allocate), _Free(lambda _, address: system.free(address)))
        self._decoder = library.JxlDecoderCreate(byref(self._memory))
        if not self._decoder:
            raise MemoryError
        self._source = source
        self._info = _BasicInfo()

    def header(self) -> dict[str, object]:
        """What the file says of itself; its frames are counted, not decoded."""
        facts: dict[str, object] = {}
        frames = 0
        try:
            for event in self._events(_BASIC_INFO | _COLOUR_ENCODING | _FRAME):
                if event == _COLOUR_ENCODING:
                    facts = self._facts()
                    if not self._info.have_animation:
                        break
                frames += event == _FRAME
        except BrokenJxlError:
            if not facts:
                raise
        if not facts:
            raise BrokenJxlError("there is no picture in the file")
        return {**facts, "frames": max(frames, 1)}

    def frames(self, order: Order) -> dict[str, object]:
        """Decode the wanted frames, as many as there are before the first that is broken."""
        done, at, size, broken = 0, 0, 0, ""
        try:
            for event in self._events(_BASIC_INFO | _COLOUR_ENCODING | _FULL_IMAGE):
                if event == _COLOUR_ENCODING:
                    self._facts()
                    size = self._info.xsize * self._info.ysize * _RGBA
                    pixels = (c_char * size)()
                    self._library.JxlDecoderSkipFrames(self._decoder, order.frames[0])
                    at = order.frames[0]
                elif event == _NEED_OUTPUT:
                    status = self._library.JxlDecoderSetImageOutBuffer(self._decoder, byref(_FORMAT), pixels, size)
                    self._check(status, "its pixels")
                elif event == _FULL_IMAGE:
                    write(order.target, pixels)
                    done += 1
                    if done == len(order.frames):
                        break
                    self._library.JxlDecoderSkipFrames(self._decoder, order.frames[done] - at - 1)
                    at = order.frames[done]
        except BrokenJxlError as error:
            if not done:
                raise
            broken = str(error)
        return {"frames": done, "broken": broken}

    def _events(self, wanted: int) -> Iterator[int]:
        library, decoder = self._library, self._decoder
        library.JxlDecoderSubscribeEvents(decoder, wanted)
        library.JxlDecoderSetUnpremultiplyAlpha(decoder, 1)
        library.JxlDecoderSetInput(decoder, self._source, len(self._source))
        library.JxlDecoderCloseInput(decoder)
        while True:
            event = library.JxlDecoderProcessInput(decoder)
            if event == _SUCCESS:
                return
            if event == _NEED_MORE_INPUT:
                raise BrokenJxlError("the file is cut")
            self._check(event, "")
            if event == _BASIC_INFO:
                self._check(library.JxlDecoderGetBasicInfo(decoder, byref(self._info)), "its header")
            yield event

    def _facts(self) -> dict[str, object]:
        """Of the size and the colours; the colours of the pixels are chosen here."""
        info, extra = self._info, _ExtraChannel()
        kinds = []
        for index in range(info.num_extra_channels):
            self._check(self._library.JxlDecoderGetExtraChannelInfo(self._decoder, index, byref(extra)), "its channels")
            kinds.append(extra.type)
        original = self._encoding(_ORIGINAL)
        wanted = self._wanted(original)
        if wanted is not None:
            self._check(self._library.JxlDecoderSetPreferredColorProfile(self._decoder, byref(wanted)), "its colours")
        found = self._encoding(_DATA)
        return {
            "width": info.xsize,
            "height": info.ysize,
            "bits": info.bits_per_sample,
            "is_float": bool(info.exponent_bits_per_sample),
            "lossless": bool(info.uses_original_profile),
            "channels": kinds,
            "grey": info.num_color_channels == 1,
            "encoding": None if found is None else _described(found),
            "profile": self._profile() if found is None else "",
        }

    def _wanted(self, original: _Encoding | None) -> _Encoding | None:
        """Colours that pixels are asked for in; None: the file's own.

        Without a colour engine, libjxl makes linear light of XYB pictures that have an ICC profile, too coarse in 8 bits.
        """
        if self._info.uses_original_profile:
            return None
        if original is None:
            grey = self._info.num_color_channels == 1
            return _Encoding(int(grey), 1, (c_double * 2)(0.3127, 0.329), 1, (c_double * 6)(), _SRGB, 0.0, 1)
        if original.transfer_function == 8:  # linear: the same
            original.transfer_function = _SRGB
            return original
        return None

    def _encoding(self, target: int) -> _Encoding | None:
        found = _Encoding()
        status = self._library.JxlDecoderGetColorAsEncodedProfile(self._decoder, target, byref(found))
        return found if status == _SUCCESS else None

    def _profile(self) -> str:
        """The ICC profile, in hexadecimal."""
        size = c_size_t()
        self._check(self._library.JxlDecoderGetICCProfileSize(self._decoder, _DATA, byref(size)), "its profile")
        if size.value > _MAX_ICC:
            raise BrokenJxlError(f"a colour profile of {size.value:,} bytes")
        profile = (c_char * size.value)()
        self._check(self._library.JxlDecoderGetColorAsICCProfile(self._decoder, _DATA, profile, size), "its profile")
        return bytes(profile).hex()

    def _check(self, status: int, what: str) -> None:
        if status == _ERROR and self._no_memory:
            raise MemoryError
        if status == _ERROR:
            raise BrokenJxlError(f"libjxl cannot read {what or 'it'}")


def _described(found: _Encoding) -> dict[str, object]:
    """White and primaries by number and by x, y; numbers of the transfer function as in ITU-T H.273, and 65535 for a power."""
    return {
        "white": found.white_point,
        "primaries": found.primaries,
        "xy": [*found.white_point_xy, *found.primaries_xy],
        "transfer": found.transfer_function,
        "gamma": found.gamma,
    }
