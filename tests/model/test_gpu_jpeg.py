"""Decoding JPEGs for a GPU, on the CPU: all of it but nvJPEG itself. It agrees with Pillow, or leaves the file to Pillow."""

import io
import logging
import pickle
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from needs import DATA, needs_cuda, needs_data, needs_no_cuda
from PIL import Image

from moderation import ImageError, ModelError, OpenClipEncoder
from moderation.demo import IMAGES_DIR, POLICY_FILE
from moderation.images.decoding import DecodedImage
from moderation.images.limits import ImageLimits
from moderation.images.pdq import distance, pdq
from moderation.images.pixels import upright as upright_by_pillow
from moderation.model.gpu_jpeg.decoder import MAX_PIXELS, GpuJpegDecoder, decode_group
from moderation.model.gpu_jpeg.grouping import Grouped
from moderation.model.gpu_jpeg.plain_jpeg import plain_jpeg
from moderation.model.gpu_jpeg.resizing import Span, grey, resize, upright
from moderation.model.jpeg_decoder import DecoderCounts
from moderation.model.preprocessing import Preprocessing
from moderation.policy_files.loading import load_policy
from moderation.records import ObjectRef
from moderation.scoring.decision_rows import Embedded, build_rows
from moderation.scoring.image_scorer import compiled_by
from moderation.scoring.judging import RowContext

# torchvision 0.29 announces that torchcodec will take over.
pytestmark = pytest.mark.filterwarnings("ignore:The image decoding and encoding capabilities:DeprecationWarning")

MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
CLIP = Preprocessing(224, MEAN, STD)


def scene(width, height, seed=0):
    """A smooth picture, no two parts of it alike."""
    noise = np.random.default_rng(seed).integers(0, 256, (max(2, height // 16), max(2, width // 16), 3), np.uint8)
    return Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC)


def jpeg(picture, **options):
    file = io.BytesIO()
    picture.save(file, "JPEG", **{"quality": 90, **options})
    return file.getvalue()


def by_pillow(data, preprocessing=CLIP):
    """What the pipeline makes of a file without a GPU: the picture, its crop, and how it was turned."""
    image = DecodedImage(data, ImageLimits(), preprocessing.size)
    [(_, picture)] = image.frames()
    return picture, preprocessing(picture, image.reduction), image.orientation


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    """Small matrices: threads would wait for each other longer than they work."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def encoder():
    return OpenClipEncoder("demo", device="cpu")


@pytest.fixture(scope="module")
def decoder(encoder):
    decoder = GpuJpegDecoder(encoder.preprocessing, encoder, device="cpu")
    yield decoder
    decoder.close()


def for_model(preprocessing, **options):
    return GpuJpegDecoder(preprocessing, device="cpu", **options)


# --- which files ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("subsampling", ["4:4:4", "4:2:2", "4:2:0", "4:1:1"])
def test_plain_jpegs_are_read_up_to_their_end_marker(subsampling):
    data = jpeg(scene(100, 80), subsampling=subsampling)
    for tail in (b"", b"rubbish", data):
        plain = plain_jpeg(data + tail)
        assert plain is not None
        assert (plain.width, plain.height, plain.end) == (100, 80, len(data))


def test_grey_restarts_metadata_and_filling_are_plain():
    exif = Image.Exif()
    exif[0x0112] = 6
    for data in (
        jpeg(scene(100, 80).convert("L")),
        jpeg(scene(100, 80), restart_marker_blocks=2),
        jpeg(scene(100, 80), exif=exif, icc_profile=b"p" * 100_000, comment=b"\xff\xd9"),
        jpeg(scene(100, 80)).replace(b"\xff\xda", b"\xff\xff\xff\xda", 1),
    ):
        plain = plain_jpeg(data)
        assert plain is not None
        assert (plain.width, plain.height, plain.end) == (100, 80, len(data))


def test_other_kinds_are_left_to_pillow():
    picture = scene(100, 80)
    sound = jpeg(picture)
    start = sound.index(b"\xff\xda")
    frame = sound.index(b"\xff\xc0")
    others = {
        "progressive": jpeg(picture, progressive=True),
        "CMYK": jpeg(picture.convert("CMYK")),
        "RGB": jpeg(picture, keep_rgb=True),
        "PNG": b"\x89PNG\r\n\x1a\n" + sound,
        "arithmetic": sound.replace(b"\xff\xc0", b"\xff\xc9", 1),
        "12 bits": sound[: frame + 4] + b"\x0c" + sound[frame + 5 :],
        "no height": sound[: frame + 5] + b"\0\0" + sound[frame + 7 :],
        "odd sampling": sound[: frame + 11] + b"\x33" + sound[frame + 12 :],
        "two frames": sound[:start] + sound[frame : frame + 19] + sound[start:],
        "no Huffman tables": sound.replace(b"\xff\xc4", b"\xff\xfe"),
        "cut off": sound[:-2],
        "cut off after a whole thumbnail": jpeg(picture, exif=b"Exif\0\0" + sound[:1000] + b"\xff\xd9")[:-2],
        "nothing": b"",
    }
    assert {name: plain_jpeg(data) for name, data in others.items()} == dict.fromkeys(others)


def test_a_file_cut_anywhere_is_left_to_pillow():
    data = jpeg(scene(64, 64), quality=30)
    assert [end for end in range(len(data)) if plain_jpeg(data[:end])] == []


@settings(max_examples=300, deadline=None)
@given(changes=st.lists(st.tuples(st.integers(0, 700), st.integers(0, 255)), max_size=8), cut=st.integers(0, 700))
def test_no_bytes_make_the_reader_fail(changes, cut):
    data = bytearray(_SMALL)
    for at, value in changes:
        data[at % len(data)] = value
    for hostile in (bytes(data), bytes(data[:cut]), bytes(data[cut:]), b"\xff\xd8" + bytes(data[cut:])):
        plain = plain_jpeg(hostile)
        assert plain is None or (plain.width > 0 and plain.height > 0 and plain.end <= len(hostile))


_SMALL = jpeg(scene(16, 16), quality=20)


# --- resizing -------------------------------------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(
    size=st.tuples(st.integers(1, 300), st.integers(1, 300)),
    target=st.tuples(st.integers(1, 120), st.integers(1, 120)),
    kind=st.sampled_from(["bicubic", "bilinear", "box"]),
    data=st.data(),
)
def test_resizing_gives_the_pixels_of_pillow(size, target, kind, data):
    picture = scene(*size, seed=size[0])
    spans = []
    for length, after in zip(size, target, strict=True):
        low = data.draw(st.integers(0, after - 1))
        spans.append(Span(length, after, low, data.draw(st.integers(low + 1, after))))
    across, down = spans
    levels = torch.from_numpy(np.array(picture)).permute(2, 0, 1).float()
    found = resize(levels, across, down, kind).permute(1, 2, 0).numpy()
    expected = picture.resize(target, getattr(Image.Resampling, kind.upper()))
    expected = np.asarray(expected.crop((across.low, down.low, across.high, down.high))).astype(int)
    # Where one axis grows and the other shrinks, Pillow may take the height first, and rounds other levels on the way.
    mixed = (target[0] > size[0]) is not (target[1] > size[1])
    assert np.abs(found - expected).max() <= (6 if mixed else 1)


def test_rotation_and_grey_give_the_pixels_of_pillow():
    picture = scene(40, 30)
    tensor = torch.from_numpy(np.array(picture)).permute(2, 0, 1)
    for orientation in range(10):
        turned = np.asarray(upright_by_pillow(picture, orientation))
        assert np.array_equal(upright(tensor, orientation).permute(1, 2, 0).numpy(), turned), orientation
    assert np.array_equal(grey(tensor.float())[0].numpy(), np.asarray(picture.convert("L")))


# --- pictures -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["shortest", "longest", "squash"])
@pytest.mark.parametrize(("size", "interpolation"), [(224, "bicubic"), (97, "bilinear")])
def test_a_crop_is_what_preprocessing_makes(mode, size, interpolation):
    preprocessing = Preprocessing(size, MEAN, STD, interpolation, mode, 127)
    decoder = for_model(preprocessing)
    for width, height in [(500, 375), (375, 500), (225, 224), (64, 80), (64, 2048), (1501, 67), (300, 300)]:
        for mode_of_file, orientation in [("RGB", 1), ("RGB", 6), ("L", 1)]:
            data = jpeg(scene(width, height).convert(mode_of_file))
            ready = decoder.decode(data, orientation)
            with Image.open(io.BytesIO(data)) as image:
                expected = preprocessing(upright_by_pillow(image.convert("RGB"), orientation))
            assert ready is not None
            assert ready.pixels.dtype == np.uint8
            levels = np.abs(ready.pixels.astype(int) - expected)
            # A half that is rounded otherwise is one level; where bicubic enlarges, two of them can add up.
            assert levels.max() <= 2, (width, height, orientation)
            assert levels.mean() < 0.2, (width, height, orientation)
    decoder.close()


def test_the_small_picture_serves_for_the_hash(decoder):
    for size in [(100, 80), (512, 512), (900, 600), (1300, 2000)]:
        data = jpeg(scene(*size))
        picture, _, _ = by_pillow(data)
        small = decoder.decode(data, 8).small
        assert max(small.size) <= 512
        assert distance(pdq(small)[0], pdq(picture.transpose(Image.Transpose.ROTATE_90))[0]) <= 10
        assert abs(pdq(small)[1] - pdq(picture)[1]) <= 5


def test_too_small_too_long_and_too_large_pictures_are_left_to_pillow(decoder):
    side = int(MAX_PIXELS**0.5) + 1
    before = decoder.counts
    for size in [(63, 500), (500, 63), (64, 64 * 33), (side, side)]:
        assert decoder.decode(jpeg(Image.new("RGB", size)), 1) is None, size
    after = decoder.counts
    assert (after.passed_on - before.passed_on, after.failed - before.failed) == (4, 0)


def real_photos():
    """The EXIF set as it is; the seven photos as baseline files, since most of them are progressive."""
    for path in sorted((DATA / "hostile" / "exif-orientation").glob("*.jpg")):
        yield path.name, path.read_bytes()
    for path in sorted((DATA / "clip-b32" / "photos").glob("*.jpg")):
        with Image.open(path) as image:
            yield path.name, jpeg(image, quality=95)


@needs_data
def test_real_photos_have_the_same_embeddings_and_nearly_the_same_hashes(decoder, encoder):
    expected, found = [], []
    for name, data in real_photos():
        picture, pixels, orientation = by_pillow(data, encoder.preprocessing)
        ready = decoder.decode(data, orientation)
        assert ready is not None, name
        assert distance(pdq(picture)[0], pdq(ready.small)[0]) <= 16, name
        expected.append(pixels)
        found.append(ready.pixels)
    assert len(found) == 25
    cosines = (encoder.encode_images(np.stack(expected)) * encoder.encode_images(np.stack(found))).sum(axis=1)
    assert cosines.min() >= 0.999


@pytest.mark.slow
@needs_data
def test_real_photos_have_the_same_embeddings_in_a_larger_model():
    import open_clip

    torch.manual_seed(0)
    model = open_clip.create_model("ViT-B-32", pretrained=None).eval()
    decoder = for_model(CLIP)
    pairs = []
    for _, data in list(real_photos())[::3]:
        _, pixels, orientation = by_pillow(data)
        pairs.append((pixels, decoder.decode(data, orientation).pixels))
    decoder.close()
    batch = torch.from_numpy(np.stack([pixels for pair in pairs for pixels in pair])).permute(0, 3, 1, 2).float() / 255
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (MEAN, STD))
    with torch.inference_mode():
        vectors = model.encode_image((batch - mean) / std, normalize=True)
    assert (vectors[::2] * vectors[1::2]).sum(dim=1).min() >= 0.999


def test_no_decision_of_the_demo_changes(decoder, encoder):
    policy = load_policy(POLICY_FILE)
    compiled = compiled_by(encoder, policy)
    context = RowContext("test", compiled, encoder.name, encoder.fingerprint)
    rows, expected, found = [], [], []
    for path in sorted(path for path in IMAGES_DIR.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg")):
        data = path.read_bytes()
        try:
            _, pixels, orientation = by_pillow(data, encoder.preprocessing)
        except ImageError:
            assert decoder.decode(data, 1) is None, path.name
            continue
        ready = decoder.decode(data, orientation)
        if ready is not None:
            rows.append(Embedded(_ref(path.name), "0" * 64, "JPEG", 1, 1, 1, (0,)))
            expected.append(pixels)
            found.append(ready.pixels)
    assert len(rows) > 100

    def decisions(pixels):
        vectors = encoder.encode_images(np.stack(pixels)).astype(np.float16)
        table = build_rows(context, rows, vectors, [], datetime(2026, 11, 21, tzinfo=UTC)).decisions
        return table.select(["uri", "action", "flags", "shadow_flags", "top_rule"]).to_pylist()

    assert decisions(found) == decisions(expected)
    assert len({row["action"] for row in decisions(found)}) > 1


def _ref(name):
    return ObjectRef(f"memory://{name}", "1", 1, datetime(2026, 11, 21, tzinfo=UTC))


@needs_data
def test_hostile_files_go_to_pillow_or_look_the_same(decoder, encoder):
    before = decoder.counts
    files = sorted(path for path in (DATA / "hostile" / "pillow").iterdir() if path.is_file())
    taken = []
    for path in files:
        data = path.read_bytes()
        ready = decoder.decode(data, 1)
        if ready is not None:
            taken.append(path.name)
            with Image.open(io.BytesIO(data)) as image:
                assert np.abs(encoder.preprocessing(image.convert("RGB")).astype(int) - ready.pixels).max() <= 1, path.name
    after = decoder.counts
    assert {"hopper.jpg", "hopper_gray.jpg"} <= set(taken)
    assert not {"pil_sample_cmyk.jpg", "hopper_16bit_qtables.jpg"} & set(taken)
    assert after.decoded + after.passed_on + after.failed - sum(vars_of(before)) == len(files)


def vars_of(counts):
    return counts.decoded, counts.passed_on, counts.failed


# --- groups ---------------------------------------------------------------------------------------------------------------


def broken_inside():
    """Sound by its structure, but its Huffman tables are impossible."""
    data = bytearray(jpeg(scene(200, 150)))
    table = data.index(b"\xff\xc4") + 5
    data[table : table + 16] = b"\xff" + bytes(15)
    assert plain_jpeg(bytes(data)) is not None
    return bytes(data)


def test_a_file_that_fails_does_not_fail_others_of_its_batch(encoder):
    decoder = for_model(encoder.preprocessing)
    files = [jpeg(scene(200 + n, 150, seed=n)) for n in range(12)]
    alone = [decoder.decode(data, 1).pixels for data in files]
    mixed = [item for data in files for item in (data, broken_inside())]
    with ThreadPoolExecutor(len(mixed)) as pool:
        found = list(pool.map(lambda data: decoder.decode(data, 1), mixed))
    assert [ready is None for ready in found] == [False, True] * len(files)
    assert all(np.array_equal(ready.pixels, pixels) for ready, pixels in zip(found[::2], alone, strict=True))
    assert decoder.counts == DecoderCounts(decoded=24, passed_on=0, failed=12)
    decoder.close()


def test_those_who_wait_are_served_together_in_their_order_and_within_bounds():
    groups, going, begun = [], threading.Event(), threading.Event()

    def work(items):
        begun.set()
        going.wait()
        groups.append(items)
        return [-item for item in items]

    grouped = Grouped(work, lambda item: item, count=4, limit=100, name="test")
    items = [1, 60, 30, 20, 500, 5, 6, 7, 8, 9]
    with ThreadPoolExecutor(len(items)) as pool:
        futures = []
        for number, item in enumerate(items):
            futures.append(pool.submit(grouped.do, item))
            begun.wait()  # the first is being worked on, the others wait in their order
            while len(grouped._asked) < number:
                time.sleep(0.001)
        going.set()
        assert [future.result() for future in futures] == [-item for item in items]
    assert groups == [[1], [60, 30], [20], [500], [5, 6, 7, 8], [9]]
    grouped.close()


def test_an_error_reaches_all_who_wait_for_it_and_nobody_else():
    def work(items):
        return [100 // item for item in items]

    grouped = Grouped(work, lambda item: 1, count=1, limit=1, name="test")
    with pytest.raises(ZeroDivisionError):
        grouped.do(0)
    assert grouped.do(5) == 20
    grouped.close()
    assert grouped.do(5) is None


def test_a_decoder_that_finds_another_size_than_the_header_is_not_believed(encoder):
    def cut(files, device):
        return [picture[:, 1:] if picture.shape[1] == 203 else picture for picture in decode_group(files, device)]

    decoder = for_model(encoder.preprocessing, decode=cut)
    assert decoder.decode(jpeg(scene(300, 203)), 1) is None
    assert decoder.decode(jpeg(scene(300, 204)), 1) is not None
    decoder.close()
    assert decoder.decode(jpeg(scene(300, 204)), 1) is None


# --- the guard ------------------------------------------------------------------------------------------------------------


class Fickle:
    """An encoder that takes nothing for the same."""

    def encode_images(self, pixels):
        vectors = np.random.default_rng(int(pixels[0].sum()) + id(pixels)).normal(size=(len(pixels), 64))
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def failing(files, device):
    raise RuntimeError("no such engine")


@pytest.mark.parametrize(
    ("decode", "encoder", "reason"),
    [
        (lambda files, device: [p.flip(0) for p in decode_group(files, device)], None, "pixels differ by "),
        (lambda files, device: [p.flip(2) for p in decode_group(files, device)], None, "pixels differ by "),
        (decode_group, Fickle(), "the cosine of embeddings is "),
        (failing, None, "a plain JPEG could not be decoded"),
    ],
)
def test_a_decoder_that_differs_from_pillow_is_refused_in_one_line(decode, encoder, reason, caplog):
    with caplog.at_level(logging.WARNING):
        decoder = GpuJpegDecoder(CLIP, encoder, device="cpu", decode=decode)
    [record] = caplog.records
    assert decoder.refused is not None
    assert decoder.refused.startswith(reason)
    assert record.getMessage() == f"JPEGs are decoded by Pillow, not on cpu: {decoder.refused}"
    assert decoder.decode(jpeg(scene(300, 200)), 1) is None
    assert decoder.counts == DecoderCounts(passed_on=1)


def test_a_decoder_that_agrees_with_pillow_is_used(decoder):
    assert decoder.refused is None


@needs_no_cuda()
def test_no_gpu_is_an_error_in_one_line():
    with pytest.raises(ModelError) as caught:
        GpuJpegDecoder(CLIP)
    assert str(caught.value) == (
        "JPEG decoder `gpu` was requested, but torch sees no CUDA device here: use `cpu`, or a GPU node"
    )
    assert pickle.loads(pickle.dumps(caught.value)).args == caught.value.args  # noqa: S301 - our own bytes


@needs_cuda()
def test_nvjpeg_agrees_with_pillow(encoder):
    assert GpuJpegDecoder(encoder.preprocessing, encoder).refused is None
