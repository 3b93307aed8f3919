"""Preprocessing is open_clip's own: to the bit by `exact`, to a level or two by `fast`, whatever the picture's shape."""

import hashlib
import os
import subprocess
import sys
import tracemalloc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from needs import DATA, needs_data
from PIL import Image

from moderation.images.decoding import DecodedImage
from moderation.images.limits import ImageLimits
from moderation.model.preprocessing import MAX_ASPECT, Preprocessing

MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
CLIP = Preprocessing(224, MEAN, STD)

sides = st.one_of(st.integers(1, 40), st.integers(41, 400))


def noise(width, height, seed=0):
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8))


def normalized(pixels, mean=MEAN, std=STD):
    """What the encoder makes of uint8 [S, S, 3]: float32 [3, S, S]."""
    import torch

    tensor = torch.from_numpy(np.array(pixels)).permute(2, 0, 1).to(torch.float32).div(255)
    return tensor.sub(torch.tensor(mean).view(3, 1, 1)).div(torch.tensor(std).view(3, 1, 1)).numpy()


@needs_data
@pytest.mark.parametrize("target_size", [None, 224])
def test_seven_published_tensors_are_met_to_the_bit(target_size):
    with np.load(DATA / "clip-b32" / "preprocessed.npz") as stored:
        expected = {name.removesuffix(".jpg"): stored[name] for name in stored.files}
    assert len(expected) == 7
    for name, tensor in expected.items():
        data = (DATA / "clip-b32" / "photos" / f"{name}.jpg").read_bytes()
        [(_, picture)] = DecodedImage(data, ImageLimits(), target_size).frames()
        assert np.array_equal(normalized(CLIP(picture)), tensor), name


@settings(max_examples=120, deadline=None)
@given(
    width=sides,
    height=sides,
    size=st.sampled_from([32, 64, 65]),
    mode=st.sampled_from(["shortest", "longest", "squash"]),
    interpolation=st.sampled_from(["bicubic", "bilinear"]),
    fill=st.sampled_from([0, 127, 255]),
)
def test_preprocessing_equals_open_clips_bit_for_bit(width, height, size, mode, interpolation, fill):
    from open_clip.transform import image_transform

    if max(width, height) > MAX_ASPECT * min(width, height) and mode == "shortest":
        width = height  # very long pictures are cut first: see below
    if mode == "longest" and round(min(width, height) * size / max(width, height)) < 1:
        width = height  # open_clip fails where a side becomes nothing
    picture = noise(width, height, width * 1000 + height)
    reference = image_transform(size, False, MEAN, STD, mode, interpolation, fill)  # noqa: FBT003
    ours = Preprocessing(size, MEAN, STD, interpolation, mode, fill)(picture)
    assert ours.dtype == np.uint8
    assert ours.shape == (size, size, 3)
    assert np.array_equal(normalized(ours), reference(picture).numpy())


@pytest.mark.parametrize(
    "size", [(1, 1), (1, 2), (3, 1), (223, 225), (224, 224), (225, 223), (640, 480), (7168, 224), (224, 7168)]
)
def test_odd_and_extreme_sizes_equal_open_clips(size):
    from open_clip.transform import image_transform

    picture = noise(*size)
    reference = image_transform(224, False, MEAN, STD)  # noqa: FBT003
    assert np.array_equal(normalized(CLIP(picture)), reference(picture).numpy())


@pytest.mark.parametrize("mode", ["shortest", "longest", "squash"])
@pytest.mark.parametrize("size", [(1, 60000), (60000, 1), (3, 20000), (20000, 3)])
def test_a_very_long_picture_takes_little_memory(size, mode):
    picture = Image.new("RGB", size, (10, 20, 30))
    prepare = Preprocessing(224, MEAN, STD, resize_mode=mode)
    sizes = []
    original = Image.Image.resize

    def counting(self, size, *args, **kwargs):
        sizes.append(size)
        return original(self, size, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:  # Pillow's memory is its own: watch what it is asked for
        patch.setattr(Image.Image, "resize", counting)
        tracemalloc.start()
        pixels = prepare(picture)
        assert tracemalloc.get_traced_memory()[1] < 20_000_000
        tracemalloc.stop()
    assert pixels.shape == (224, 224, 3)
    assert len(sizes) == 1
    assert sizes[0][0] * sizes[0][1] <= 224 * 224 * MAX_ASPECT
    assert (pixels == [10, 20, 30]).all(axis=-1).any(), "nothing is left of the picture"


def test_the_middle_of_a_very_long_picture_is_scored():
    picture = Image.new("RGB", (10, 4000), "red")
    picture.paste((0, 0, 255), (0, 1980, 10, 2020))
    pixels = CLIP(picture).astype(int)
    assert (pixels[..., 2] > pixels[..., 0]).mean() > 0.95


def test_what_is_added_to_a_picture_that_does_not_fill_its_square_is_the_fill():
    pixels = Preprocessing(64, MEAN, STD, resize_mode="longest", fill=127)(Image.new("RGB", (100, 50), "red"))
    assert pixels[0, 0].tolist() == [127] * 3
    assert pixels[32, 32].tolist() == [255, 0, 0]
    assert (pixels == 127).all(axis=-1).sum() == 32 * 64


# --- fast ------------------------------------------------------------------------------------------------------------------


def smooth(width, height, seed=0):
    """Without the steps from pixel to pixel of noise, which overshoot: what is cut off then depends on the order of axes."""
    return noise(width // 8 + 2, height // 8 + 2, seed).resize((width, height), Image.Resampling.BICUBIC)


@settings(max_examples=150, deadline=None)
@given(
    width=sides,
    height=sides,
    size=st.sampled_from([32, 64, 65]),
    mode=st.sampled_from(["shortest", "longest", "squash"]),
    interpolation=st.sampled_from(["bicubic", "bilinear"]),
)
def test_fast_is_exact_to_a_level_or_two(width, height, size, mode, interpolation):
    exact = Preprocessing(size, MEAN, STD, interpolation, mode, 127)
    picture = smooth(width, height, width * 1000 + height)
    expected, found = exact(picture), replace(exact, resize="fast")(picture)
    assert (found.dtype, found.shape) == (np.uint8, (size, size, 3))
    difference = np.abs(expected.astype(int) - found)
    assert difference.max() <= 8  # between few pixels there are steps after all
    assert difference.mean() <= 0.5


FAST = replace(CLIP, resize="fast")
HERE = Path(__file__).parent


@pytest.mark.parametrize(
    "size",
    [(1, 1), (1, 2), (3, 1), (223, 225), (224, 224), (225, 223), (224, 999), (261, 240), (7168, 224), (60000, 1), (1, 60000)],
)
def test_fast_is_exact_for_odd_and_extreme_sizes_too(size):
    picture = smooth(*size)
    assert np.abs(CLIP(picture).astype(int) - FAST(picture)).max() <= 2


def test_large_pictures_are_left_to_pillow_and_memory_in_pieces_changes_nothing():
    large = smooth(2600, 1900)
    assert np.array_equal(FAST(large), CLIP(large))
    expected = FAST(smooth(500, 375))
    assert not np.array_equal(expected, CLIP(smooth(500, 375)))
    blocks = Image.core.get_block_size()
    Image.core.set_block_size(1 << 16)
    try:
        assert np.array_equal(FAST(smooth(500, 375)), expected)
    finally:
        Image.core.set_block_size(blocks)


def test_a_picture_is_only_read_and_what_is_made_of_it_lasts():
    picture = smooth(300, 200)
    before = picture.tobytes()
    found = FAST(picture)
    kept = found.copy()
    assert picture.tobytes() == before
    picture.paste((255, 0, 0), (0, 0, 300, 200))
    del picture
    assert np.array_equal(found, kept)


def test_colours_that_are_converted_later_are_converted_by_fast_too():
    def swapped(small):
        red, green, blue = small.split()
        return Image.merge("RGB", (blue, green, red))

    picture = smooth(500, 375)
    assert np.array_equal(FAST(picture, None, swapped), FAST(picture)[..., ::-1])
    printed = Image.merge("CMYK", (*smooth(500, 375).split(), Image.new("L", (500, 375))))
    assert np.array_equal(
        FAST(printed, None, lambda small: small.convert("RGB")), CLIP(printed, None, lambda small: small.convert("RGB"))
    )


ELSEWHERE = """
import pathlib, sys, threading
import torch
from test_preprocessing import FAST, resized_bits
torch.set_num_threads(int(sys.argv[1]))
tasks = pathlib.Path("/proc/self/task")  # Arrow's allocator has a thread of its own
count = lambda: sum(not (task / "comm").read_text().startswith("jemalloc") for task in tasks.glob("*"))
found = []
def work():
    before = count()
    found.append(resized_bits())
    found.append(count() - before)
thread = threading.Thread(target=work)
thread.start()
thread.join()
print(torch.backends.cpu.get_cpu_capability(), torch.get_num_threads(), *found)
"""


def resized_bits():
    """A digest of pictures that were resized in several ways."""
    digest = hashlib.sha256()
    for number, size in enumerate([(500, 375), (375, 500), (90, 301), (1280, 960)]):
        for mode in ("shortest", "squash"):
            for interpolation in ("bicubic", "bilinear"):
                digest.update(replace(FAST, resize_mode=mode, interpolation=interpolation)(noise(*size, number)).tobytes())
    return digest.hexdigest()


@pytest.mark.parametrize(("capability", "threads"), [("default", 4), ("avx2", 3)])
def test_every_kind_of_processor_and_number_of_threads_gives_the_same_bits(capability, threads):
    """Without SIMD, torch would share the work among threads of its own: none of them may start beside decode threads."""
    done = subprocess.run(
        [sys.executable, "-c", ELSEWHERE, str(threads)],
        env={
            **os.environ,
            "ATEN_CPU_CAPABILITY": capability,
            "PYTHONPATH": os.pathsep.join([str(HERE), *sys.path]),
        },
        check=True,
        capture_output=True,
        text=True,
    )
    _, others, digest, started = done.stdout.split()
    assert (int(others), digest, int(started)) == (threads, resized_bits(), 0)
