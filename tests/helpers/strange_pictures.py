"""Pictures that browsers show though something about them is out of the ordinary: colours, damage, sizes, turns."""

import io
import struct
import zlib
from collections.abc import Iterator

import numpy as np
from PIL import Image

WIDE, HIGH = 96, 64


def scene(width=WIDE, height=HIGH):
    """Smooth, colourful, and without any symmetry."""
    y, x = np.mgrid[0:height, 0:width]
    levels = [255 * x / width, 255 * y / height, 255 - 255 * (x * 2 + y) / (2 * width + height)]
    image = Image.fromarray(np.stack(levels, axis=-1).astype(np.uint8))
    image.paste((230, 30, 40), (width // 8, height // 8, width // 3, height // 3))
    return image


def photo(width=WIDE, height=HIGH):
    """The same with grain, so that files are of some length."""
    grain = np.random.default_rng(3).integers(-25, 26, (height, width, 3))
    return Image.fromarray((np.asarray(scene(width, height), int) + grain).clip(0, 255).astype(np.uint8))


def encoded(image, kind, **options):
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


# --- ICC profiles by hand --------------------------------------------------------------------------------------------------

SRGB = ((0.4360, 0.2225, 0.0139), (0.3851, 0.7169, 0.0971), (0.1431, 0.0606, 0.7141))
ADOBE = ((0.6097, 0.3111, 0.0195), (0.2053, 0.6257, 0.0609), (0.1492, 0.0632, 0.7446))
P3 = ((0.5151, 0.2412, -0.0011), (0.2919, 0.6922, 0.0419), (0.1572, 0.0666, 0.7841))
PROPHOTO = ((0.7977, 0.2880, 0.0), (0.1352, 0.7119, 0.0), (0.0313, 0.0001, 0.8249))
SRGB_CURVE = b"para\0\0\0\0\0\3\0\0" + struct.pack(
    ">5i", *(round(value * 65536) for value in (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045))
)


def gamma(exponent):
    return b"curv\0\0\0\0" + struct.pack(">IH", 1, round(exponent * 256)) + b"\0\0"


def curve(function, size=1024):
    levels = (np.clip([function(i / (size - 1)) for i in range(size)], 0, 1) * 65535).round().astype(">u2")
    return b"curv\0\0\0\0" + struct.pack(">I", size) + levels.tobytes()


def xyz(values):
    return b"XYZ \0\0\0\0" + struct.pack(">3i", *(round(value * 65536) for value in values))


def profile(tags, space=b"RGB ", connection=b"XYZ ", kind=b"mntr", version=2):
    """An ICC profile of these tags."""
    white = struct.pack(">3i", 63190, 65536, 54061)
    tags = {
        b"desc": b"desc\0\0\0\0" + struct.pack(">I", 5) + b"made\0" + bytes(78),
        b"wtpt": xyz((0.9642, 1.0, 0.8249)),
        **tags,
    }
    table, body, start = b"", b"", 128 + 4 + 12 * len(tags)
    for name, content in tags.items():
        table += name + struct.pack(">II", start + len(body), len(content))
        body += content + b"\0" * (-len(content) % 4)
    head = bytes(8) + bytes([version, 0, 0, 0]) + kind + space + connection + bytes(12) + b"acsp" + bytes(28) + white
    data = head.ljust(128, b"\0") + struct.pack(">I", len(tags)) + table + body
    return struct.pack(">I", start + len(body)) + data[4:]


def rgb_profile(colorants, tone, **how):
    names = (b"rXYZ", b"gXYZ", b"bXYZ")
    tones = dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), tone)
    return profile({**{name: xyz(values) for name, values in zip(names, colorants, strict=True)}, **tones}, **how)


def grey_profile(tone):
    return profile({b"kTRC": tone}, space=b"GRAY")


def lab(red, green, blue):
    """CIE Lab (D50) of linear sRGB."""
    matrix = np.array(SRGB).T
    value = matrix @ np.array([red, green, blue]) / np.array([0.9642, 1.0, 0.8249])
    f = np.where(value > 0.008856, np.cbrt(value), 7.787 * value + 16 / 116)
    return 116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])


def cmyk_profile(ink=1.5, grid=9):
    """A CMYK press by a table of Lab: ink darkens by a power."""
    levels = np.linspace(0, 1, grid)
    table = []
    for c in levels:
        for m in levels:
            for y in levels:
                for k in levels:
                    light = [((1 - v) * (1 - k)) ** ink * 0.9 + 0.02 for v in (c, m, y)]
                    tone = lab(*light)
                    table += [tone[0] * 255 / 100, tone[1] + 128, tone[2] + 128]
    straight = bytes(range(256))
    content = b"mft1\0\0\0\0" + bytes([4, 3, grid, 0]) + struct.pack(">9i", 65536, 0, 0, 0, 65536, 0, 0, 0, 65536)
    content += straight * 4 + np.clip(np.round(table), 0, 255).astype(np.uint8).tobytes() + straight * 3
    return profile({b"A2B0": content}, space=b"CMYK", connection=b"Lab ", kind=b"prtr")


def rgb_table_profile(function, grid=9):
    """An RGB profile by a table of Lab: `function` says what linear sRGB colour three levels mean."""
    levels = np.linspace(0, 1, grid)
    table = []
    for r in levels:
        for g in levels:
            for b in levels:
                tone = lab(*function(r, g, b))
                table += [tone[0] * 255 / 100, tone[1] + 128, tone[2] + 128]
    straight = bytes(range(256))
    content = b"mft1\0\0\0\0" + bytes([3, 3, grid, 0]) + struct.pack(">9i", 65536, 0, 0, 0, 65536, 0, 0, 0, 65536)
    content += straight * 3 + np.clip(np.round(table), 0, 255).astype(np.uint8).tobytes() + straight * 3
    return profile({b"A2B0": content}, connection=b"Lab ")


PROFILES = {
    "sRGB": rgb_profile(SRGB, SRGB_CURVE),
    "Adobe RGB": rgb_profile(ADOBE, gamma(2.2)),
    "P3": rgb_profile(P3, SRGB_CURVE, version=4),
    "ProPhoto": rgb_profile(PROPHOTO, gamma(1.8)),
    "gamma 1.8": rgb_profile(SRGB, gamma(1.8)),
    "gamma 1": rgb_profile(SRGB, gamma(1.0)),
    "channels swapped": rgb_profile((SRGB[2], SRGB[0], SRGB[1]), SRGB_CURVE),
    "inverted": rgb_profile(SRGB, curve(lambda v: 1 - v**2.2)),
    "by table": rgb_table_profile(lambda r, g, b: (g**2.2, r**2.2, b**1.8)),
}
BROKEN_PROFILES = {
    "cut": rgb_profile(ADOBE, gamma(2.2))[:300],
    "no tags": profile({}),
    "rubbish": b"rubbish" * 40,
    "other space": rgb_profile(ADOBE, gamma(2.2), space=b"HSV "),
    "of a printer": rgb_profile(ADOBE, gamma(2.2), kind=b"prtr"),
    "no signature": rgb_profile(ADOBE, gamma(2.2)).replace(b"acsp", b"xxxx"),
    "one channel missing": rgb_profile(ADOBE, gamma(2.2)).replace(b"bTRC", b"zzzz"),
    "grey for colours": grey_profile(gamma(1.0)),
    "CMYK for colours": cmyk_profile(),
}


# --- PNG -------------------------------------------------------------------------------------------------------------------


def chunk(kind, body=b"", crc=None):
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body) if crc is None else crc)


def png(image, *chunks, behind=(), depth=8, raw=None, kind=None):
    """A PNG of a picture, with other chunks before and behind its pixels."""
    kind = {"RGB": 2, "L": 0, "LA": 4, "RGBA": 6, "P": 3}[image.mode] if kind is None else kind
    rows = np.asarray(image).reshape(image.height, -1) if raw is None else raw
    pixels = zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows))
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", image.width, image.height, depth, kind, 0, 0, 0))
    body = b"".join(part if isinstance(part, bytes) else chunk(*part) for part in chunks)
    after = b"".join(part if isinstance(part, bytes) else chunk(*part) for part in behind)
    return b"\x89PNG\r\n\x1a\n" + header + body + chunk(b"IDAT", pixels) + after + chunk(b"IEND")


def iccp(data):
    return b"iCCP", b"p\0\0" + zlib.compress(data)


def gama(value):
    return b"gAMA", struct.pack(">I", round(value * 100_000))


CHRM_SRGB = (b"cHRM", struct.pack(">8I", 31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000))
CHRM_SWAPPED = (b"cHRM", struct.pack(">8I", 31270, 32900, 15000, 6000, 64000, 33000, 30000, 60000))
CHRM_WIDE = (b"cHRM", struct.pack(">8I", 31270, 32900, 68000, 32000, 26500, 69000, 15000, 6000))


def cicp(*values):
    return b"cICP", bytes(values)


def coloured_pngs():
    image = scene()
    plain = np.asarray(image)
    deep = (plain.astype(">u2") * 257).reshape(HIGH, -1)
    grey = image.convert("L")
    adobe = PROFILES["Adobe RGB"]
    made = {
        "gAMA of sRGB": [gama(0.45455)],
        "gAMA 1": [gama(1.0)],
        "gAMA 1 and cHRM": [gama(1.0), CHRM_SRGB],
        "gAMA 0.55": [gama(0.55)],
        "gAMA 0.1": [gama(0.1)],
        "gAMA 0.02 and cHRM": [gama(0.02), CHRM_SRGB],
        "gAMA 0": [gama(0)],
        "gAMA huge": [(b"gAMA", b"\xff\xff\xff\xff")],
        "gAMA of 3 bytes": [(b"gAMA", b"\0\1\2")],
        "cHRM alone": [CHRM_SWAPPED],
        "cHRM and gAMA": [gama(0.45455), CHRM_SWAPPED],
        "cHRM wide and gAMA": [gama(0.45455), CHRM_WIDE],
        "sRGB over gAMA": [(b"sRGB", b"\0"), gama(1.0), CHRM_SWAPPED],
        "sRGB over iCCP": [(b"sRGB", b"\0"), iccp(adobe)],
        "sRGB over swapped iCCP": [(b"sRGB", b"\0"), iccp(PROFILES["channels swapped"])],
        "sRGB of 9": [(b"sRGB", b"\x09"), gama(1.0), CHRM_SRGB],
        "iCCP over gAMA": [iccp(PROFILES["channels swapped"]), gama(1.0), CHRM_SRGB],
        "gAMA then iCCP": [gama(1.0), CHRM_SRGB, iccp(PROFILES["channels swapped"])],
        "broken iCCP and gAMA": [iccp(b"rubbish" * 40), gama(1.0), CHRM_SRGB],
        "cICP of sRGB over iCCP": [cicp(1, 13, 0, 1), iccp(PROFILES["channels swapped"])],
        "cICP P3": [cicp(12, 13, 0, 1)],
        "cICP BT.2020": [cicp(9, 1, 0, 1)],
        "cICP linear": [cicp(1, 8, 0, 1)],
        "cICP PQ": [cicp(9, 16, 0, 1)],
        "cICP HLG": [cicp(9, 18, 0, 1)],
        "cICP with a matrix": [cicp(12, 13, 1, 1)],
        "cICP video range": [cicp(12, 13, 0, 0)],
        "cICP unknown": [cicp(2, 2, 0, 1)],
        "cICP reserved": [cicp(77, 99, 0, 1)],
        **{f"iCCP {name}": [iccp(data)] for name, data in {**PROFILES, **BROKEN_PROFILES}.items()},
    }
    files = {f"{name}.png": png(image, *chunks) for name, chunks in made.items()}
    files["iCCP bad checksum.png"] = png(image, chunk(*iccp(adobe), crc=1))
    files["gAMA bad checksum.png"] = png(image, chunk(*gama(1.0), crc=1), CHRM_SRGB)
    files["iCCP cut stream.png"] = png(image, (b"iCCP", iccp(adobe)[1][:-40]))
    files["iCCP twice.png"] = png(image, iccp(adobe), iccp(PROFILES["channels swapped"]))
    files["gAMA behind the pixels.png"] = png(image, behind=[gama(1.0), CHRM_SRGB])
    for name, chunks in (("gAMA", [gama(1.0), CHRM_SRGB]), ("grey profile", [iccp(grey_profile(gamma(1.0)))])):
        files[f"grey {name}.png"] = png(grey, *chunks)
        files[f"grey with alpha {name}.png"] = png(Image.merge("LA", [grey, image.getchannel(0)]), *chunks)
    files["grey with a colour profile.png"] = png(grey, iccp(PROFILES["gamma 1"]))
    files["palette gAMA.png"] = _palette_png(image, gama(1.0), CHRM_SRGB)
    files["palette iCCP.png"] = _palette_png(image, iccp(PROFILES["channels swapped"]))
    files["alpha and profile.png"] = png(_translucent(image), iccp(PROFILES["channels swapped"]))
    files["alpha and inverted.png"] = png(_translucent(image), iccp(PROFILES["inverted"]))
    files["alpha and gAMA.png"] = png(_translucent(image), gama(1.0), CHRM_SRGB)
    files["16 bits and profile.png"] = png(image, iccp(PROFILES["channels swapped"]), depth=16, raw=deep)
    files["16 bits and gAMA.png"] = png(image, gama(1.0), CHRM_SRGB, depth=16, raw=deep)
    files["16-bit grey.png"] = png(grey, depth=16, raw=np.asarray(grey).astype(">u2") * 257)
    files["16-bit grey gAMA.png"] = png(grey, gama(1.0), CHRM_SRGB, depth=16, raw=np.asarray(grey).astype(">u2") * 257)
    return files


def _translucent(image):
    whole = image.convert("RGBA")
    whole.putalpha(Image.linear_gradient("L").resize(image.size))
    return whole


def _palette_png(image, *chunks):
    few = image.quantize(64)
    return png(few, *chunks, (b"PLTE", bytes(few.getpalette()[: 64 * 3])))


def transparent_pngs():
    image = scene()
    grey = image.convert("L")
    deep = np.asarray(grey).astype(">u2") * 257
    deep[: HIGH // 2, : WIDE // 2] = 0x1234
    near = deep.copy()
    near[HIGH // 2 :, : WIDE // 2] = 0x1235
    colour = (np.asarray(image).astype(">u2") * 257).copy()
    colour[: HIGH // 2, : WIDE // 2] = (0x1234, 0x5678, 0x9ABC)
    colour[HIGH // 2 :, : WIDE // 2] = (0x1235, 0x5678, 0x9ABC)
    few = image.quantize(16)
    bits = np.packbits((np.asarray(grey) > 100).astype(np.uint8), axis=1)
    pairs = np.asarray(grey) >> 4
    pairs = (pairs[:, ::2] << 4) | pairs[:, 1::2]
    quads = np.asarray(grey) >> 6
    quads = (quads[:, ::4] << 6) | (quads[:, 1::4] << 4) | (quads[:, 2::4] << 2) | quads[:, 3::4]
    return {
        "16-bit grey, one level transparent.png": png(grey, (b"tRNS", b"\x12\x34"), depth=16, raw=near),
        "16-bit colour, one transparent.png": png(
            image, (b"tRNS", b"\x12\x34\x56\x78\x9a\xbc"), depth=16, raw=colour.reshape(HIGH, -1)
        ),
        "8-bit grey, a key above 255.png": png(grey, (b"tRNS", b"\1" + bytes([int(np.asarray(grey)[5, 5])]))),
        "8-bit colour, a key above 255.png": png(image, (b"tRNS", b"\1\xe6\0\x1e\0\x28")),
        "8-bit colour, a key.png": png(image, (b"tRNS", b"\0\xe6\0\x1e\0\x28")),
        "8-bit grey, a key.png": png(grey, (b"tRNS", b"\0" + bytes([int(np.asarray(grey)[15, 15])]))),
        "1-bit, a key.png": png(grey, (b"tRNS", b"\0\0"), depth=1, raw=bits, kind=0),
        "4-bit grey, a key.png": png(grey, (b"tRNS", b"\0\x0f"), depth=4, raw=pairs, kind=0),
        "4-bit grey.png": png(grey, depth=4, raw=pairs, kind=0),
        "2-bit grey.png": png(grey, depth=2, raw=quads, kind=0),
        "2-bit grey, a key.png": png(grey, (b"tRNS", b"\0\3"), depth=2, raw=quads, kind=0),
        "palette, too many alphas.png": png(few, (b"PLTE", bytes(few.getpalette()[:48])), (b"tRNS", bytes(range(0, 255, 5)))),
        "palette, alphas.png": png(few, (b"PLTE", bytes(few.getpalette()[:48])), (b"tRNS", bytes(range(0, 160, 10)))),
        "palette, an index beyond it.png": png(few, (b"PLTE", bytes(few.getpalette()[:24]))),
        "alpha with a key.png": png(_translucent(image), (b"tRNS", b"\0\1\0\2\0\3")),
        "translucent.png": png(_translucent(image)),
        "translucent palette.webp": encoded(_translucent(image), "WEBP", lossless=True, exact=True),
        "translucent.avif": encoded(_translucent(image), "AVIF", quality=95),
    }


def damaged_pngs():
    image = photo()
    whole = png(image)
    at = whole.index(b"IDAT")
    many = _idats(image, 700)
    flipped = bytearray(whole)
    flipped[len(flipped) * 2 // 3] ^= 0x40
    bad_crc = bytearray(whole)
    bad_crc[-13] ^= 1
    interlaced = _interlaced(image)
    return {
        "tEXt bad checksum.png": png(image, chunk(b"tEXt", b"a\0b", crc=7)),
        "tEXt bad checksum behind.png": png(image, behind=[chunk(b"tEXt", b"a\0b", crc=7)]),
        "pHYs short.png": png(image, (b"pHYs", b"\0\1")),
        "pHYs empty.png": png(image, (b"pHYs", b"")),
        "tIME empty.png": png(image, (b"tIME", b"")),
        "iCCP empty.png": png(image, (b"iCCP", b"")),
        "iCCP method 9.png": png(image, (b"iCCP", b"p\0\x09" + zlib.compress(b"x" * 200))),
        "zTXt of 3 MB.png": png(image, (b"zTXt", b"k\0\0" + zlib.compress(bytes(3_000_000)))),
        "zTXt method 9.png": png(image, (b"zTXt", b"k\0\x09" + zlib.compress(b"x"))),
        "iTXt broken.png": png(image, (b"iTXt", b"k\0\1\0")),
        "iTXt XMP not UTF-8.png": png(image, (b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0<x:xmpmeta>\xff\xfe\xe4</x:xmpmeta>")),
        "tRNS bad checksum.png": png(image, chunk(b"tRNS", b"\0\xe6\0\x1e\0\x28", crc=9)),
        "unknown chunk bad checksum.png": png(image, chunk(b"abCd", b"123", crc=9)),
        "eXIf broken.png": png(image, (b"eXIf", b"\0\0\x11\0" * 4)),
        "sRGB empty.png": png(image, (b"sRGB", b"")),
        "cHRM short.png": png(image, (b"cHRM", b"\0\0")),
        "IDAT bad checksum.png": bytes(bad_crc[:-12]) + bytes(bad_crc[-12:]),
        "first IDAT bad checksum.png": _bad_crc_of_first_idat(many),
        "last IDAT bad checksum.png": whole[:-16] + b"\0\0\0\7" + whole[-12:],
        "without IEND.png": whole[:-12],
        "cut in IEND.png": whole[:-3],
        "cut at 70 %.png": whole[: at + (len(whole) - at) * 7 // 10],
        "cut at 30 %.png": whole[: at + (len(whole) - at) * 3 // 10],
        "cut at 70 %, many IDATs.png": many[: len(many) * 7 // 10],
        "grey, cut at 50 %.png": _half(png(image.convert("L"))),
        "alpha, cut at 50 %.png": _half(png(_translucent(image))),
        "palette, cut at 50 %.png": _half(_palette_png(image)),
        "16 bits, cut at 50 %.png": _half(png(image, depth=16, raw=(np.asarray(image).astype(">u2") * 257).reshape(HIGH, -1))),
        "interlaced.png": interlaced,
        "interlaced, cut at 50 %.png": _half(interlaced),
        "pixels damaged.png": bytes(flipped),
        "rubbish behind IDAT.png": whole[:-12] + b"rubbish" * 5,
        "a chunk of no end.png": whole[:-12] + b"\x7f\xff\xff\xfftEXtabc",
        "signature damaged.png": b"\x89PNG\r\n\x1a\r" + whole[8:],
        "IHDR bad checksum.png": whole[:29] + b"abcd" + whole[33:],
        "PLTE bad checksum.png": _palette_bad_crc(image),
        "too few pixels.png": png(image, raw=np.asarray(image).reshape(HIGH, -1)[: HIGH // 2]),
        "too many pixels.png": png(image, raw=np.concatenate([np.asarray(image).reshape(HIGH, -1)] * 2)),
        "adler wrong.png": _bad_adler(image),
        "filter 9.png": _filter(image),
    }


def _half(data):
    at = data.index(b"IDAT")
    return data[: at + (len(data) - at) // 2]


def _idats(image, size):
    pixels = zlib.compress(b"".join(b"\0" + row.tobytes() for row in np.asarray(image).reshape(image.height, -1)))
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", image.width, image.height, 8, 2, 0, 0, 0))
    body = b"".join(chunk(b"IDAT", pixels[i : i + size]) for i in range(0, len(pixels), size))
    return b"\x89PNG\r\n\x1a\n" + header + body + chunk(b"IEND")


def _bad_crc_of_first_idat(data):
    at = data.index(b"IDAT")
    length = int.from_bytes(data[at - 4 : at])
    end = at + 4 + length
    return data[:end] + b"\0\0\0\7" + data[end + 4 :]


def _palette_bad_crc(image):
    few = image.quantize(64)
    return png(few, chunk(b"PLTE", bytes(few.getpalette()[: 64 * 3]), crc=3))


def _bad_adler(image):
    pixels = zlib.compress(b"".join(b"\0" + row.tobytes() for row in np.asarray(image).reshape(image.height, -1)))
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", image.width, image.height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", pixels[:-4] + b"abcd") + chunk(b"IEND")


def _filter(image):
    rows = [b"\0" + row.tobytes() for row in np.asarray(image).reshape(image.height, -1)]
    rows[40] = b"\x09" + rows[40][1:]
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", image.width, image.height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"".join(rows))) + chunk(b"IEND")


def _interlaced(image):
    pixels, rows = np.asarray(image), b""
    for x, y, dx, dy in ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)):
        part = pixels[y::dy, x::dx]
        rows += b"".join(b"\0" + row.tobytes() for row in part.reshape(len(part), -1))
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", image.width, image.height, 8, 2, 0, 0, 1))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND")


# --- JPEG ------------------------------------------------------------------------------------------------------------------


def segment(kind, body):
    return struct.pack(">BBH", 0xFF, kind, len(body) + 2) + body


def with_segments(data, *segments):
    return data[:2] + b"".join(segments) + data[2:]


def exif(orientation):
    tags = Image.Exif()
    tags[0x0112] = orientation
    return tags.tobytes()


XMP = (
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    b'<rdf:Description rdf:about="" xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="6"/></rdf:RDF></x:xmpmeta>'
)


def jpegs():
    image = photo()
    whole = encoded(image, "JPEG", quality=85)
    progressive = encoded(image, "JPEG", quality=85, progressive=True)
    restarts = encoded(image, "JPEG", quality=85, restart_marker_blocks=4)
    scan = whole.index(b"\xff\xda")
    scans = [i for i in range(len(progressive) - 1) if progressive[i : i + 2] == b"\xff\xda"]
    broken_scan = bytearray(progressive)
    broken_scan[scans[-1] + 4] = 9
    broken_early = bytearray(progressive)
    broken_early[scans[2] + 4] = 9
    hit = bytearray(whole)
    hit[(scan + len(whole)) // 2] ^= 0x55
    hit_restarts = bytearray(restarts)
    hit_restarts[(restarts.index(b"\xff\xda") + len(restarts)) // 2] ^= 0x55
    cmyk = Image.merge("CMYK", [*image.split(), image.convert("L").point(lambda v: v // 3)])
    profiles = {
        f"{name}.jpg": encoded(scene(), "JPEG", quality=95, icc_profile=data)
        for name, data in {**PROFILES, **{f"broken {k}": v for k, v in BROKEN_PROFILES.items()}}.items()
    }
    return {
        **profiles,
        "plain.jpg": whole,
        "without its end.jpg": whole[:-2],
        "cut by 5 bytes.jpg": whole[:-5],
        "cut at 90 %.jpg": whole[: scan + (len(whole) - scan) * 9 // 10],
        "cut at 50 %.jpg": whole[: scan + (len(whole) - scan) // 2],
        "cut at 10 %.jpg": whole[: scan + (len(whole) - scan) // 10],
        "cut behind the scan header.jpg": whole[: scan + 14],
        "cut before the scan.jpg": whole[:scan],
        "cut at 50 % and ended.jpg": whole[: scan + (len(whole) - scan) // 2] + b"\xff\xd9",
        "4:4:4, cut at 50 %.jpg": _half_jpeg(encoded(image, "JPEG", quality=85, subsampling=0)),
        "grey, cut at 50 %.jpg": _half_jpeg(encoded(image.convert("L"), "JPEG", quality=85)),
        "grey.jpg": encoded(image.convert("L"), "JPEG", quality=85),
        "grey, grey profile.jpg": encoded(image.convert("L"), "JPEG", quality=85, icc_profile=grey_profile(gamma(1.0))),
        "grey, colour profile.jpg": encoded(image.convert("L"), "JPEG", quality=85, icc_profile=PROFILES["gamma 1"]),
        "restarts, cut at 50 %.jpg": _half_jpeg(restarts),
        "restarts, hit.jpg": bytes(hit_restarts),
        "hit in the middle.jpg": bytes(hit),
        "progressive.jpg": progressive,
        "progressive, without its end.jpg": progressive[:-2],
        **{
            f"progressive, cut at {p} %.jpg": progressive[: scans[0] + (len(progressive) - scans[0]) * p // 100]
            for p in (5, 20, 50, 80)
        },
        "progressive, broken last scan.jpg": bytes(broken_scan),
        "progressive, broken third scan.jpg": bytes(broken_early),
        "progressive, after its first scan.jpg": progressive[: scans[1]],
        "rubbish behind.jpg": whole + b"rubbish" * 100,
        "rubbish before segments.jpg": whole[:2] + b"\0\0\0" + whole[2:],
        "JFIF empty.jpg": whole[:2] + segment(0xE0, b"JFIF\0") + whole[20:],
        "JFIF short.jpg": whole[:2] + segment(0xE0, b"JFIF\0\1") + whole[20:],
        "APP1 short.jpg": with_segments(whole, segment(0xE1, b"E")),
        "Exif only.jpg": with_segments(whole, segment(0xE1, b"Exif\0\0")),
        "Exif odd.jpg": with_segments(whole, segment(0xE1, b"Exif\0\0\0\0\x11\0" + bytes(20))),
        "Exif turned.jpg": encoded(image, "JPEG", quality=85, exif=exif(6)),
        "XMP turned.jpg": with_segments(whole, segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + XMP)),
        "XMP not UTF-8.jpg": with_segments(whole, segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0<x>\xff\xfe\xe4</x>")),
        "APP2 MPF rubbish.jpg": with_segments(whole, segment(0xE2, b"MPF\0" + b"\xff" * 40)),
        "APP13 rubbish.jpg": with_segments(whole, segment(0xED, b"Photoshop 3.0\0" + b"8BIM" + b"\xff" * 9)),
        "APP14 short.jpg": with_segments(whole, segment(0xEE, b"Adobe")),
        "DRI of 0.jpg": with_segments(whole, segment(0xDD, b"\0\0")),
        "RGB.jpg": encoded(image, "JPEG", quality=85, keep_rgb=True),
        "CMYK.jpg": encoded(cmyk, "JPEG", quality=95),
        "CMYK with a profile.jpg": encoded(cmyk, "JPEG", quality=95, icc_profile=cmyk_profile()),
        "CMYK with an RGB profile.jpg": encoded(cmyk, "JPEG", quality=95, icc_profile=PROFILES["channels swapped"]),
        "CMYK, cut at 50 %.jpg": _half_jpeg(encoded(cmyk, "JPEG", quality=95)),
        "profile in the wrong order.jpg": with_segments(
            whole,
            segment(0xE2, b"ICC_PROFILE\0\2\2" + PROFILES["channels swapped"][200:]),
            segment(0xE2, b"ICC_PROFILE\0\1\2" + PROFILES["channels swapped"][:200]),
        ),
        "profile without its second part.jpg": with_segments(
            whole, segment(0xE2, b"ICC_PROFILE\0\1\2" + PROFILES["channels swapped"])
        ),
        "profile twice.jpg": with_segments(
            whole,
            segment(0xE2, b"ICC_PROFILE\0\1\1" + PROFILES["channels swapped"]),
            segment(0xE2, b"ICC_PROFILE\0\1\1" + PROFILES["Adobe RGB"]),
        ),
    }


def _half_jpeg(data):
    scan = data.index(b"\xff\xda")
    return data[: scan + (len(data) - scan) // 2]


# --- GIF, WebP, BMP, AVIF --------------------------------------------------------------------------------------------------


def gif(*frames, width, height, palette=(), background=0, loop=True):
    """A GIF. Frames are (left, top, pixels of indexes [h, w], transparent index or None, disposal)."""
    size = max(1, (max(2, len(palette)) - 1).bit_length())
    table = b"".join(bytes(colour) for colour in palette).ljust(3 << size, b"\0")
    flags = (0x80 if palette else 0) | (size - 1)
    data = b"GIF89a" + struct.pack("<HHBBB", width, height, flags, background, 0) + (table if palette else b"")
    for left, top, pixels, transparent, disposal in frames:
        has = transparent is not None
        data += b"!\xf9\4" + bytes([disposal << 2 | has, 10, 0, transparent or 0]) + b"\0"
        data += b"," + struct.pack("<HHHHB", left, top, pixels.shape[1], pixels.shape[0], 0) + lzw(pixels.ravel())
    return data + b";"


def lzw(indexes):
    """Uncompressed: a clear code before every hundred pixels."""
    bits = "".join(
        format(v, "09b")[::-1] if i % 100 else format(256, "09b")[::-1] + format(v, "09b")[::-1] for i, v in enumerate(indexes)
    )
    bits += format(257, "09b")[::-1]
    body = bytes(int(bits[i : i + 8].ljust(8, "0")[::-1], 2) for i in range(0, len(bits), 8))
    return b"\x08" + b"".join(bytes([len(body[i : i + 255])]) + body[i : i + 255] for i in range(0, len(body), 255)) + b"\0"


def gifs():
    palette = [(250, 20, 30), (20, 200, 40), (30, 40, 220), (240, 240, 20)]
    y, x = np.mgrid[0:40, 0:60]
    whole = (x // 15 + y // 10) % 4
    part = whole[:20, :30]
    frames = {"width": 60, "height": 40, "palette": palette}
    one = gif((0, 0, whole, None, 0), **frames)
    two = gif((0, 0, whole, None, 0), (5, 5, part, None, 0), **frames)
    three = gif((0, 0, whole, None, 0), (5, 5, part, None, 0), (0, 0, 3 - whole, None, 0), **frames)
    second = two.index(b"!\xf9", two.index(b"!\xf9") + 5)
    return {
        "whole.gif": one,
        "part of its canvas.gif": gif((7, 5, part, None, 0), **frames),
        "part, background 1.gif": gif((7, 5, part, None, 0), **frames, background=1),
        "part, background 1, transparent 2.gif": gif((7, 5, part, 2, 0), **frames, background=1),
        "part, two frames.gif": gif((7, 5, part, None, 0), (20, 15, part, None, 0), **frames),
        "transparent 1.gif": gif((0, 0, whole, 1, 0), **frames),
        "beyond its canvas.gif": gif((40, 30, part, None, 0), **frames),
        "larger than its canvas.gif": gif((0, 0, whole, None, 0), width=30, height=20, palette=palette),
        "outside its canvas.gif": gif((60, 40, part, None, 0), **frames),
        "without a palette.gif": gif((0, 0, whole, None, 0), width=60, height=40),
        "without its trailer.gif": one[:-1],
        "cut at 50 %.gif": one[: 30 + (len(one) - 30) // 2],
        "cut at 90 %.gif": one[: 30 + (len(one) - 30) * 9 // 10],
        "part, cut at 50 %.gif": (d := gif((7, 5, part, None, 0), **frames))[: 30 + (len(d) - 30) // 2],
        "second frame cut.gif": two[: (second + len(two)) // 2],
        "second frame missing.gif": two[:second],
        "second frame without pixels.gif": two[: second + 18],
        "third frame cut.gif": three[:-60],
        "rubbish between frames.gif": two[:second] + b"rubbish" + two[second:],
        "rubbish behind.gif": one + b"rubbish" * 9,
        "background disposal.gif": gif((0, 0, whole, None, 2), (5, 5, part, None, 2), **frames),
        "canvas of 0.gif": gif((0, 0, whole, None, 0), width=0, height=0, palette=palette),
        "GIF87a.gif": one.replace(b"GIF89a", b"GIF87a"),
        "GIF of no kind.gif": one.replace(b"GIF89a", b"GIF88a"),
        "pixels run out.gif": _short_gif(whole, palette),
    }


def _short_gif(whole, palette):
    """The code of the end comes after half of the pixels."""
    data = gif((0, 0, whole, None, 0), width=60, height=40, palette=palette)
    at = data.index(b",") + 10
    return data[:at] + lzw(whole.ravel()[:1200]) + b";"


def apngs():
    image, other, third = scene(), scene().rotate(180), scene().convert("L").convert("RGB")
    data = encoded(image, "PNG", save_all=True, append_images=[other, third], duration=100)
    marks = [i - 4 for i in range(len(data) - 4) if data[i : i + 4] == b"fcTL"]
    gap = data[: marks[1]] + data[marks[2] :]
    default = encoded(image, "PNG", save_all=True, append_images=[other, third], duration=100, default_image=True)
    return {
        "whole.apng": data,
        "default image.apng": default,
        "gap in the sequence.apng": gap,
        "cut in the second frame.apng": data[: marks[1] + 200],
        "cut in the third frame.apng": data[: marks[2] + 200],
        "cut in the first frame.apng": data[: marks[1] - 3000] if marks[1] > 4000 else data[: marks[1] * 2 // 3],
        "acTL of 0.apng": data.replace(b"acTL\0\0\0\3", b"acTL\0\0\0\0"),
        "acTL of 9.apng": _fixed(data.replace(b"acTL\0\0\0\3", b"acTL\0\0\0\x09")),
        "second frame too large.apng": _fixed(_large_frame(data, marks[1])),
        "second frame bad checksum.apng": _bad_crc_at(data, marks[1]),
        "fdAT bad checksum.apng": _bad_crc_at(data, data.index(b"fdAT") - 4),
    }


def _large_frame(data, at):
    return data[: at + 12] + struct.pack(">II", 9999, 9999) + data[at + 20 :]


def _bad_crc_at(data, at):
    end = at + 8 + int.from_bytes(data[at : at + 4])
    return data[:end] + b"\0\0\0\7" + data[end + 4 :]


def _fixed(data):
    """The same with right checksums."""
    out, at = data[:8], 8
    while at + 12 <= len(data):
        length = int.from_bytes(data[at : at + 4])
        out += chunk(data[at + 4 : at + 8], data[at + 8 : at + 8 + length])
        at += length + 12
    return out


def webps():
    image = photo()
    lossy, lossless = encoded(image, "WEBP", quality=90), encoded(image, "WEBP", lossless=True)
    moving = encoded(image, "WEBP", save_all=True, append_images=[image.rotate(180), image.rotate(90)], quality=90)
    return {
        "lossy.webp": lossy,
        "lossless.webp": lossless,
        **{f"lossy, cut at {p} %.webp": lossy[: len(lossy) * p // 100] for p in (30, 70, 99)},
        **{f"lossless, cut at {p} %.webp": lossless[: len(lossless) * p // 100] for p in (30, 70, 99)},
        **{f"moving, cut at {p} %.webp": moving[: len(moving) * p // 100] for p in (20, 50, 90)},
        "swapped.webp": encoded(scene(), "WEBP", quality=95, icc_profile=PROFILES["channels swapped"]),
        "Adobe RGB.webp": encoded(scene(), "WEBP", lossless=True, icc_profile=PROFILES["Adobe RGB"]),
        "broken profile.webp": encoded(scene(), "WEBP", lossless=True, icc_profile=b"rubbish" * 40),
        "alpha and swapped.webp": encoded(
            _translucent(scene()), "WEBP", lossless=True, exact=True, icc_profile=PROFILES["channels swapped"]
        ),
        "Exif turned.webp": encoded(image, "WEBP", quality=90, exif=exif(6)),
        "XMP turned.webp": encoded(image, "WEBP", quality=90, xmp=XMP),
        "moving with a profile.webp": encoded(
            scene(),
            "WEBP",
            save_all=True,
            append_images=[image.rotate(180)],
            icc_profile=PROFILES["channels swapped"],
            quality=95,
        ),
        "rubbish behind.webp": lossy + b"rubbish" * 9,
        "RIFF size too large.webp": lossy[:4] + struct.pack("<I", len(lossy) + 500) + lossy[8:],
        "RIFF size too small.webp": lossy[:4] + struct.pack("<I", 20) + lossy[8:],
    }


def bitmap(width, height, bits, rows, *, compression=0, masks=b"", header=40, palette=b"", extra=b""):
    """A BMP; `rows` from the bottom up, each padded to four bytes here."""
    body = b"".join(row + b"\0" * (-len(row) % 4) for row in rows) if not isinstance(rows, bytes) else rows
    info = struct.pack("<IiiHHIIiiII", header, width, height, 1, bits, compression, len(body), 2835, 2835, 0, 0)
    if header > 40:
        info = (info + masks).ljust(header, b"\0") + extra
        masks = b""
    offset = 14 + len(info) + len(masks) + len(palette)
    return b"BM" + struct.pack("<IHHI", offset + len(body), 0, 0, offset) + info + masks + palette + body


def packed(image, masks, size):
    """Pixels as little-endian numbers whose bits hold red, green, blue (and alpha)."""
    number = np.zeros((image.height, image.width), np.uint32)
    for mask, band in zip(masks, np.moveaxis(np.asarray(image, np.uint64), 2, 0), strict=False):
        if mask:
            shift, bits = (mask & -mask).bit_length() - 1, bin(mask).count("1")
            number |= ((band >> 8 - bits if bits <= 8 else band << bits - 8) << shift).astype(np.uint32)
    kind = {2: "<u2", 4: "<u4"}[size]
    return [row.tobytes() for row in number[::-1].astype(kind)]


def bitmaps():
    image = scene()
    clear = _translucent(image)
    word = lambda *masks: struct.pack(f"<{len(masks)}I", *masks)  # noqa: E731
    few = image.quantize(200)
    palette = b"".join(bytes([*few.getpalette()[3 * i : 3 * i + 3][::-1], 0]) for i in range(200))
    index = [row.tobytes() for row in np.asarray(few)[::-1]]
    rle = b"".join(b"".join(bytes([1, v]) for v in row) + b"\0\0" for row in index) + b"\0\1"
    layouts = {
        "555": (16, (0x7C00, 0x3E0, 0x1F), 0),
        "565": (16, (0xF800, 0x7E0, 0x1F), 3),
        "444": (16, (0xF00, 0xF0, 0xF), 3),
        "BGR 555": (16, (0x1F, 0x3E0, 0x7C00), 3),
        "RGBX 8888": (32, (0xFF000000, 0xFF0000, 0xFF00), 3),
        "XBGR 8888": (32, (0xFF, 0xFF00, 0xFF0000), 3),
        "10 bits": (32, (0x3FF00000, 0xFFC00, 0x3FF), 3),
        "332": (16, (0xE0, 0x1C, 0x3), 3),
        "green only": (32, (0, 0xFF00, 0), 3),
    }
    files = {}
    for name, (bits, masks, compression) in layouts.items():
        files[f"{name}.bmp"] = bitmap(
            WIDE,
            HIGH,
            bits,
            packed(image, masks, bits // 8),
            compression=compression,
            masks=word(*masks) if compression else b"",
        )
    alphas = {
        "4444": (16, (0xF00, 0xF0, 0xF, 0xF000)),
        "1555": (16, (0x7C00, 0x3E0, 0x1F, 0x8000)),
        "8888": (32, (0xFF0000, 0xFF00, 0xFF, 0xFF000000)),
        "8888 RGBA": (32, (0xFF, 0xFF00, 0xFF0000, 0xFF000000)),
        "8888 ABGR": (32, (0xFF000000, 0xFF0000, 0xFF00, 0xFF)),
    }
    for name, (bits, masks) in alphas.items():
        for version, header in (("V3", 56), ("V4", 108), ("V5", 124)):
            rows = packed(clear, masks, bits // 8)
            files[f"{name} {version}.bmp"] = bitmap(WIDE, HIGH, bits, rows, compression=3, masks=word(*masks), header=header)
        none = clear.copy()
        none.putalpha(0)
        files[f"{name}, alpha all 0.bmp"] = bitmap(
            WIDE, HIGH, bits, packed(none, masks, bits // 8), compression=3, masks=word(*masks), header=56
        )
    rgbx = packed(clear, alphas["8888"][1], 4)
    files["32 bits.bmp"] = bitmap(WIDE, HIGH, 32, rgbx)
    files["32 bits V5.bmp"] = bitmap(WIDE, HIGH, 32, rgbx, header=124, masks=word(*alphas["8888"][1]))
    files["ALPHABITFIELDS.bmp"] = bitmap(WIDE, HIGH, 32, rgbx, compression=6, masks=word(*alphas["8888"][1]))
    files["24 bits.bmp"] = encoded(image, "BMP")
    files["24 bits, cut at 50 %.bmp"] = files["24 bits.bmp"][: len(files["24 bits.bmp"]) // 2]
    files["24 bits, top down.bmp"] = bitmap(WIDE, -HIGH, 24, [r[:, ::-1].tobytes() for r in np.asarray(image)])
    files["24 bits, top down, cut.bmp"] = (d := files["24 bits, top down.bmp"])[: len(d) // 2]
    files["palette.bmp"] = bitmap(WIDE, HIGH, 8, index, palette=palette.ljust(1024, b"\0"))
    files["RLE.bmp"] = bitmap(WIDE, HIGH, 8, rle, compression=1, palette=palette.ljust(1024, b"\0"))
    files["RLE cut.bmp"] = files["RLE.bmp"][:-4000]
    files["RLE without its end.bmp"] = files["RLE.bmp"][:-2]
    files["RLE with a gap.bmp"] = bitmap(
        WIDE, HIGH, 8, rle[: WIDE * 2 * 20 + 40] + b"\0\2\x0a\x05" + rle[WIDE * 2 * 30 + 60 :], compression=1,
        palette=palette.ljust(1024, b"\0"),
    )  # fmt: skip
    return files


def avifs():
    image = scene()
    whole = encoded(image, "AVIF", quality=95)
    moving = {"save_all": True, "append_images": [image.rotate(180), image.rotate(90)], "quality": 95, "duration": 100}
    files = {
        "plain.avif": whole,
        "video levels.avif": encoded(image, "AVIF", quality=95, range="limited"),
        "4:0:0.avif": encoded(image.convert("L"), "AVIF", quality=95),
        "video levels, moving.avif": encoded(image, "AVIF", range="limited", **moving),
        "moving.avif": encoded(image, "AVIF", **moving),
        "swapped.avif": encoded(image, "AVIF", quality=95, icc_profile=PROFILES["channels swapped"]),
        "alpha and swapped.avif": encoded(_translucent(image), "AVIF", quality=95, icc_profile=PROFILES["channels swapped"]),
        "broken profile.avif": encoded(image, "AVIF", quality=95, icc_profile=b"rubbish" * 40),
        "XMP turned.avif": encoded(image, "AVIF", quality=95, xmp=XMP),
        "Exif turned.avif": encoded(image, "AVIF", quality=95, exif=exif(6)),
        **{f"cut at {p} %.avif": whole[: len(whole) * p // 100] for p in (50, 95)},
        "Exif empty.avif": _empty_exif(encoded(image, "AVIF", quality=95, exif=_described())),
        "two ipma.avif": _two_ipma(encoded(_translucent(image), "AVIF", quality=95)),
    }
    for name, (primaries, transfer) in {
        "P3": (12, 13),
        "BT.2020": (9, 1),
        "PQ": (9, 16),
        "HLG": (9, 18),
        "linear": (1, 8),
        "BT.709": (1, 1),
        "PQ of no primaries": (2, 16),
        "unknown curve": (9, 77),
    }.items():
        files[f"{name}.avif"] = _nclx(whole, primaries, transfer)
    return files


def _described():
    tags = Image.Exif()
    tags[0x010E] = "described"
    return tags.tobytes()


def _nclx(data, primaries, transfer):
    at = data.index(b"colrnclx") + 8
    return data[:at] + struct.pack(">HH", primaries, transfer) + data[at + 4 :]


def _boxes(data, start, end) -> Iterator[tuple[bytes, int, int]]:
    while start + 8 <= end:
        size = int.from_bytes(data[start : start + 4])
        yield data[start + 4 : start + 8], start, start + size
        start += size


def _grown(data, path, change):
    """The file with one box, named by the boxes around it, replaced; offsets of items are moved along."""

    def walk(start, end, names):
        out = b""
        for kind, low, high in _boxes(data, start, end):
            if kind != names[0]:
                out += data[low:high]
            elif len(names) == 1:
                out += change(data[low:high])
            else:
                head = 12 if kind == b"meta" else 8
                body = walk(low + head, high, names[1:])
                out += struct.pack(">I", len(body) + head) + data[low + 4 : low + head] + body
        return out

    out = bytearray(walk(0, len(data), path))
    delta = len(out) - len(data)
    at = out.index(b"iloc") + 4
    version, sizes = out[at], int.from_bytes(out[at + 4 : at + 6])
    assert version == 0
    assert sizes == 0x4400
    count = int.from_bytes(out[at + 6 : at + 8])
    at += 8
    for _ in range(count):
        extents = int.from_bytes(out[at + 4 : at + 6])
        at += 6
        for _ in range(extents):
            out[at : at + 4] = struct.pack(">I", int.from_bytes(out[at : at + 4]) + delta)
            at += 8
    return bytes(out)


def _two_ipma(data):
    def change(box):
        entries, at = [], 16
        for _ in range(int.from_bytes(box[12:16])):
            size = 3 + box[at + 2]
            entries.append(box[at : at + size])
            at += size
        parts = [entries[:1], entries[1:]]
        made = [box[8:12] + struct.pack(">I", len(part)) + b"".join(part) for part in parts]
        return b"".join(struct.pack(">I", len(part) + 8) + b"ipma" + part for part in made)

    return _grown(data, [b"meta", b"iprp", b"ipma"], change)


def _empty_exif(data):
    """The extent of the Exif item has no bytes."""
    out = bytearray(data)
    number = None
    at = data.index(b"Exif") - 4
    number = int.from_bytes(data[at : at + 2])
    at = data.index(b"iloc") + 12
    for _ in range(int.from_bytes(data[at - 2 : at])):
        if int.from_bytes(data[at : at + 2]) == number:
            out[at + 10 : at + 14] = bytes(4)
        at += 14
    return bytes(out)


def corpus():
    """All of them, by name."""
    return {
        **coloured_pngs(),
        **transparent_pngs(),
        **damaged_pngs(),
        **jpegs(),
        **gifs(),
        **apngs(),
        **{f"{name[:-5]} (WebP).webp": data for name, data in webps().items()},
        **{f"{name[:-4]} (BMP).bmp": data for name, data in bitmaps().items()},
        **{f"{name[:-5]} (AVIF).avif": data for name, data in avifs().items()},
        "XMP turned.png": png(photo(), (b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + XMP)),
        "Exif turned.png": png(photo(), (b"eXIf", exif(6)[6:])),
        "Exif turned, behind.png": png(photo(), behind=[(b"eXIf", exif(6)[6:])]),
        "Raw profile Exif turned.png": png(
            photo(),
            (b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(f"\nexif\n{len(exif(6)):8}\n{exif(6).hex()}\n".encode())),
        ),
        "black.png": png(Image.new("RGB", (64, 64))),
        "one pixel.png": png(Image.new("RGB", (1, 1), (10, 200, 30))),
    }
