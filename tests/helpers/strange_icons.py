"""ICO and CUR files of every kind, made by hand, for comparison with a browser."""

import struct

import numpy as np
from PIL import Image
from strange_pictures import encoded, gama, packed, png, scene

SIDE = 48


def picture(side=SIDE, colour=None):
    return scene(side, side) if colour is None else Image.new("RGB", (side, side), colour)


def dib(image, bits, *, mask=None, palette=None, compression=0, masks=b"", both=None, alpha=None, header=40, used=0):
    """A BMP without its file header, with a mask of what is transparent."""
    width, height = image.size
    if bits <= 8:
        few = image.quantize(palette or 1 << bits)
        values = np.asarray(few)
        table = few.getpalette()
        count = used or 1 << bits
        colours = b"".join(bytes([*table[3 * i : 3 * i + 3][::-1], 0])[-4:].rjust(4, b"\0") for i in range(count))
        each = 8 // bits
        rows = np.pad(values, ((0, 0), (0, -width % each)))
        rows = sum(rows[:, i::each].astype(np.uint16) << (8 - bits * (i + 1)) for i in range(each)).astype(np.uint8)
        lines = [row.tobytes() for row in rows[::-1]]
    else:
        colours = b""
        if bits == 24:
            lines = [row[:, ::-1].tobytes() for row in np.asarray(image)[::-1]]
        elif bits == 16:
            lines = packed(image, (0x7C00, 0x3E0, 0x1F), 2)
        else:
            clear = image.convert("RGBA")
            clear.putalpha(alpha if alpha is not None else 255)
            lines = packed(clear, (0xFF0000, 0xFF00, 0xFF, 0xFF000000), 4)
    body = b"".join(line + b"\0" * (-len(line) % 4) for line in lines)
    if mask is None:
        mask = np.zeros((height, width), bool)
    cover = [np.packbits(row).tobytes() for row in mask[::-1]]
    cover = b"".join(row + b"\0" * (-len(row) % 4) for row in cover)
    info = struct.pack(
        "<IiiHHIIiiII", header, width, 2 * height if both is None else both, 1, bits, compression, 0, 0, 0, used, 0
    )
    return info.ljust(header, b"\0") + masks + colours + body + cover


def icon(*pictures, kind=1, hot=(0, 0), count=None):
    """`pictures`: (side that the directory says, bits it says, data)."""
    start = 6 + 16 * len(pictures)
    entries, bodies = b"", b""
    for side, bits, data in pictures:
        fields = hot if kind == 2 else (1, bits)
        entries += struct.pack("<BBBBHHII", side % 256, side % 256, 0, 0, *fields, len(data), start + len(bodies))
        bodies += data
    return struct.pack("<HHH", 0, kind, len(pictures) if count is None else count) + entries + bodies


def icons():
    """All of them, by name."""
    image = picture()
    half = np.zeros((SIDE, SIDE), bool)
    half[:, : SIDE // 3] = True
    ramp = Image.linear_gradient("L").resize((SIDE, SIDE))
    small, large = picture(16, "red"), picture(64)
    one = dib(image, 32)
    files = {f"{bits} bits": icon((SIDE, bits, dib(image, bits))) for bits in (1, 4, 8, 16, 24, 32)}
    files |= {f"{bits} bits, mask": icon((SIDE, bits, dib(image, bits, mask=half))) for bits in (1, 4, 8, 16, 24, 32)}
    files |= {
        "32 bits, alpha": icon((SIDE, 32, dib(image, 32, alpha=ramp))),
        "32 bits, alpha and mask": icon((SIDE, 32, dib(image, 32, alpha=ramp, mask=half))),
        "32 bits, alpha all 0": icon((SIDE, 32, dib(image, 32, alpha=0))),
        "32 bits, alpha all 0, mask": icon((SIDE, 32, dib(image, 32, alpha=0, mask=half))),
        "8 bits, 100 colours": icon((SIDE, 8, dib(image, 8, palette=100, used=100))),
        "24 bits, 33 wide": icon((33, 24, dib(picture(33), 24, mask=half[:33, :33]))),
        "4 bits, 33 wide": icon((33, 4, dib(picture(33), 4, mask=half[:33, :33]))),
        "PNG": icon((64, 32, encoded(large, "PNG"))),
        "PNG of 256": icon((256, 32, encoded(picture(256), "PNG"))),
        "PNG with gamma": icon((64, 32, png(large, gama(1.0)))),
        "PNG cut": icon((256, 32, (d := encoded(picture(256), "PNG"))[: len(d) // 2])),
        "PNG, another size in its directory": icon((32, 32, encoded(large, "PNG"))),
        "PNG larger than its directory can say": icon((256, 32, encoded(picture(300), "PNG"))),
        "another size in its directory": icon((32, 32, one)),
        "smaller than its directory says": icon((64, 32, one)),
        "large and small": icon((64, 32, dib(large, 32)), (16, 32, dib(small, 32))),
        "small and large": icon((16, 32, dib(small, 32)), (64, 32, dib(large, 32))),
        "deep and flat": icon((SIDE, 32, one), (SIDE, 4, dib(picture(colour="red"), 4))),
        "flat and deep": icon((SIDE, 4, dib(picture(colour="red"), 4)), (SIDE, 32, one)),
        "equals": icon((SIDE, 32, one), (SIDE, 32, dib(picture(colour="red"), 32))),
        "the largest is broken": icon((64, 32, b"nothing" * 20), (16, 32, dib(small, 32))),
        "the largest is behind the end": icon((16, 32, dib(small, 32)), (64, 32, b"")),
        "its directory counts too many": icon((SIDE, 32, one), count=9),
        "no mask": icon((SIDE, 24, dib(image, 24)[: 40 + SIDE * SIDE * 3])),
        "cut at 70 %": icon((SIDE, 24, (d := dib(image, 24))[: len(d) * 7 // 10])),
        "rubbish behind": icon((SIDE, 32, one)) + b"rubbish" * 50,
        "RLE": icon((SIDE, 8, dib(image, 8, compression=1))),
        "fields": icon((SIDE, 32, dib(image, 32, compression=3, masks=struct.pack("<3I", 0xFF0000, 0xFF00, 0xFF), mask=half))),
        "V5": icon((SIDE, 32, dib(image, 32, header=124, alpha=ramp))),
        "top down": icon((SIDE, 24, dib(image, 24, both=-2 * SIDE))),
    }
    made = {f"{name}.ico": data for name, data in files.items()}
    cursor = icon((16, 32, dib(small, 32)), (SIDE, 32, dib(image, 32, alpha=ramp)), kind=2, hot=(5, 300))
    made["two.cur"] = cursor
    deep = [(SIDE, 32, dib(picture(colour="red"), 4)), (SIDE, 4, one)]
    made["equals.cur"] = icon(*deep, kind=2, hot=(1, 1))
    made["equals, hot spots.cur"] = icon(*deep[::-1], kind=2, hot=(9, 40))
    return made
