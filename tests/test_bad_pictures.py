"""Pictures that are damaged, are something else, or claim to be too large."""

import contextlib
import os
import resource
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import EpsImagePlugin, Image, PngImagePlugin

from cavalcade.data import Folder, Images
from cavalcade.data.index_maps import read_index_map
from cavalcade.data.pictures import MAX_PIXELS, MAX_SIDE, as_rgb, image_shape, read_rgb
from cavalcade.errors import InputError
from cavalcade.thumbnails import Thumbnails
from faults import Child, no_child_is_left
from fuzzing import cuts, damages, is_refused, refusal
from hardening import AS_IT_WAS, NOTHING_RAN, READ_OR_REFUSED, REFUSED

assert no_child_is_left
pytestmark = pytest.mark.filterwarnings(
    "ignore::UserWarning:PIL"
)  # of what Pillow reads all the same

PIXELS = np.random.default_rng(0).integers(0, 256, (6, 4, 3), np.uint8)
FORMATS = {
    "a.jpg": {"format": "JPEG"},
    "progressive.jpeg": {"format": "JPEG", "progressive": True},
    "a.png": {"format": "PNG"},
    "a.bmp": {"format": "BMP"},
    "a.webp": {"format": "WEBP", "lossless": True},
    "lossy.webp": {"format": "WEBP"},
    "a.tif": {"format": "TIFF"},
    "packed.tiff": {"format": "TIFF", "compression": "tiff_lzw"},
    "a.ppm": {"format": "PPM"},
}
MEGABYTE = 2**20


def written(folder, name, pixels=PIXELS):
    path = folder / name
    Image.fromarray(pixels).save(path, **FORMATS[name])
    return path


def read(path):
    return read_rgb(path, as_rgb)


# Damage


def some_slow(names):
    return [pytest.param(n, marks=[pytest.mark.slow] if "jp" in n else []) for n in names]


DAMAGED = "a picture or a mask: cut short, or bytes damaged"


@pytest.mark.parametrize("name", some_slow(FORMATS))
def test_a_picture_that_is_cut_short_anywhere_is_refused_or_whole(tmp_path, tried, name):
    path = written(tmp_path, name)
    content, whole = path.read_bytes(), read(path)
    refused, parts = 0, [*cuts(content, 100)]
    for part in parts:
        path.write_bytes(part)
        if is_refused(lambda: read(path), path):
            refused += 1
        else:  # what was lost is of no meaning
            assert (read(path) == whole).all()
    assert refused > len(parts) // 2
    tried("images", DAMAGED, READ_OR_REFUSED, times=len(parts))


@pytest.mark.slow
@pytest.mark.parametrize("name", FORMATS)
def test_a_picture_with_other_bytes_is_refused_or_a_picture(tmp_path, tried, name):
    path = written(tmp_path, name)
    for content in damages(path.read_bytes(), 150):
        path.write_bytes(content)
        with np.errstate(all="raise"):
            refused = is_refused(lambda: read(path), path)
        if not refused:
            assert read(path).shape == (3, *image_shape(path))
            assert read(path).dtype == torch.uint8
        is_refused(lambda: image_shape(path), path)
    tried("images", DAMAGED, READ_OR_REFUSED, times=150)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["a.png", "a.bmp", "a.tif", "a.ppm"])
def test_a_mask_with_other_bytes_is_refused_or_a_mask(tmp_path, tried, name):
    path = written(tmp_path, name, PIXELS[..., 0] % 3)
    for content in damages(path.read_bytes(), 100):
        path.write_bytes(content)
        if not is_refused(lambda: read_index_map(path), path):
            assert read_index_map(path).dtype.kind in "ui"
            assert read_index_map(path).shape == image_shape(path)
    tried("images", DAMAGED, READ_OR_REFUSED, times=100)


def test_a_mistake_of_ours_is_no_damage(tmp_path, monkeypatch, tried):
    """It would leave out all images where data.on_error is skip, with a warning alone."""
    path = written(tmp_path, "a.png")
    mistakes = (TypeError, AttributeError, KeyError, IndexError, AssertionError, RuntimeError)
    for mistake in mistakes:

        def convert(_, mistake=mistake):
            raise mistake("of ours")

        with pytest.raises(mistake, match="of ours"):
            read_rgb(path, convert)
        monkeypatch.setattr(Image.Image, "load", convert)  # there, it is Pillow's at a damaged file
        with pytest.raises(InputError, match=r"a.png cannot be read as an image \('?of ours'?\)"):
            read_rgb(path, as_rgb)
        monkeypatch.undo()
    tried("images", "a mistake of the program while a picture is converted", "raised as it is",
          len(mistakes))  # fmt: skip


# Another thing than a picture


def not_pictures(path):
    """What may lie there instead; the test puts them one after the other."""
    yield lambda: path.write_bytes(b"")
    yield lambda: path.write_text("a picture\n" * 100)
    yield lambda: path.write_text("<svg xmlns='http://www.w3.org/2000/svg'/>")
    yield path.mkdir
    yield lambda: os.mkfifo(path)
    yield lambda: path.symlink_to(path)
    yield lambda: path.symlink_to(path.with_name("nowhere"))
    yield lambda: None


@pytest.mark.usefixtures("no_waiting")
@pytest.mark.parametrize("reader", [read, image_shape, read_index_map])
@pytest.mark.parametrize("suffix", ["jpg", "png", "tif", "webp", "bmp", "ppm"])
def test_what_is_no_picture_is_refused(tmp_path, tried, reader, suffix):
    path, count = tmp_path / f"a.{suffix}", 0
    for put in not_pictures(path):
        put()
        assert is_refused(lambda: reader(path), path)
        path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink(missing_ok=True)
        count += 1
    tried(
        "images",
        "a picture that is text, a folder, a pipe, a dead link or missing",
        REFUSED,
        count,
    )


@pytest.mark.parametrize("other", ["GIF", "ICO", "TGA", "PCX", "SGI", "MSP", "DDS", "EPS"])
def test_other_formats_behind_a_suffix_are_refused(tmp_path, tried, other):
    for suffix in ("jpg", "png", "tif"):
        path = tmp_path / f"a.{suffix}"
        Image.fromarray(PIXELS).convert("1" if other == "MSP" else "RGB").save(path, format=other)
        with pytest.raises(
            InputError, match=rf"a.{suffix} cannot be read .*it is none of JPEG, PNG"
        ):
            read(path)
    tried("images", "GIF, EPS, TGA … called .jpg, .png or .tif", REFUSED, times=3)


def test_ghostscript_is_not_started(tmp_path, tried, monkeypatch):
    """Though it would be, if Pillow were left alone."""
    started, folder = tmp_path / "started", tmp_path / "bin"
    folder.mkdir()
    (folder / "gs").write_text(f"#!/bin/sh\ntouch {started}\nexit 0\n")
    (folder / "gs").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    monkeypatch.setattr(EpsImagePlugin, "gs_binary", None)
    path = tmp_path / "a.png"
    Image.fromarray(PIXELS).save(path, format="EPS")
    for reader in (read, image_shape, read_index_map):
        assert is_refused(lambda reader=reader: reader(path), path)
    pictures = Thumbnails((torch.tensor([*path.read_bytes()], dtype=torch.uint8),))
    with pytest.raises(
        InputError, match=r"^thumbnails.safetensors: picture 0 cannot be read .*it is none of JPEG"
    ):
        Thumbnails.__getitem__(pictures, 0)
    assert not started.exists()
    with contextlib.suppress(Exception), Image.open(path) as image:
        image.load()
    assert started.exists()
    tried("code", "EPS called .png, which would start Ghostscript", NOTHING_RAN, 4)


def test_formats_that_are_known_are_read_whatever_the_suffix(tmp_path, tried):
    for name in FORMATS:
        path = written(tmp_path, name)
        whole = read(path)
        other = path.rename(tmp_path / ("b.png" if path.suffix != ".png" else "b.jpg"))
        assert (read(other) == whole).all()
    tried("images", "a PNG called .jpg, and so on", AS_IT_WAS, len(FORMATS))


def test_lossy_masks_are_refused(tmp_path, tried):
    """Their values are others than those that were labelled."""
    for format in ("JPEG", "WEBP"):
        path = tmp_path / "a.png"
        Image.fromarray(PIXELS[..., 0] % 3).save(path, format=format)
        assert is_refused(lambda path=path: read_index_map(path), path)
    tried("images", "a mask as JPEG or lossy WebP", REFUSED, times=2)


@pytest.mark.parametrize("values", [[[0.5, 1]], [[np.nan, 1]], [[1, 2]]])
def test_masks_of_fractions_are_refused(tmp_path, tried, values):
    path = tmp_path / "a.tif"
    Image.fromarray(np.float32(values)).save(path)
    with pytest.raises(
        InputError, match=r"a.tif holds numbers of kind float32; a mask holds whole"
    ):
        read_index_map(path)
    tried("images", "a mask of numbers with a fraction", REFUSED)


def test_images_of_16_bits_are_not_clipped(tmp_path, tried):
    path = tmp_path / "a.png"
    Image.fromarray(np.uint16([[0, 255, 256, 3000, 65535]])).save(path)
    assert read(path)[0].tolist() == [[0, 0, 1, 11, 255]]
    tried("images", "a grey image of 16 bits", "read, the upper 8 bits of each")


def test_a_palette_with_transparency_needs_no_warning(tmp_path):
    picture = Image.fromarray(np.uint8([[0, 1]]), "P")
    picture.putpalette([9, 8, 7, 60, 50, 40])
    picture.save(tmp_path / "a.png", transparency=b"\x00\x80")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read(tmp_path / "a.png")[:, 0].T.tolist() == [[9, 8, 7], [60, 50, 40]]


# Bombs


def chunk(kind, content):
    return (
        struct.pack(">I", len(content))
        + kind
        + content
        + struct.pack(">I", zlib.crc32(kind + content))
    )


def png(width, height, *chunks, depth=8):
    header = struct.pack(">IIBBBBB", width, height, depth, 0, 0, 0, 0)
    rows = chunk(b"IDAT", zlib.compress(bytes(MEGABYTE), 1))
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + b"".join(chunks)
        + rows
        + chunk(b"IEND", b"")
    )


def bomb(folder, name, width, height):
    """A small picture whose header tells another size."""
    path = written(folder, name)
    content = path.read_bytes()
    if path.suffix == ".png":
        content = png(width, height)
    elif path.suffix == ".bmp":
        content = content[:18] + struct.pack("<ii", width, height) + content[26:]
    elif path.suffix in (".jpg", ".jpeg"):
        old = struct.pack(">HH", 6, 4)
        assert content.count(old) == 1
        content = content.replace(old, struct.pack(">HH", height, width))
    elif path.suffix == ".ppm":
        content = content.replace(b"4 6\n", f"{width} {height}\n".encode())
    elif path.suffix == ".tif":
        for tag, old, new in ((256, 4, width), (257, 6, height)):
            entry = struct.pack("<HHI", tag, 4, 1)
            short = struct.pack("<HHI", tag, 3, 1)
            found = short if short in content else entry
            content = content.replace(
                found + struct.pack("<I", old), entry + struct.pack("<I", new)
            )
    else:  # frames may be smaller than their canvas
        frames = [Image.fromarray(PIXELS), Image.fromarray(255 - PIXELS)]
        frames[0].save(path, save_all=True, append_images=frames[1:])
        content = path.read_bytes()
        assert content[12:16] == b"VP8X"
        canvas = b"".join((side - 1).to_bytes(3, "little") for side in (width, height))
        content = content[:24] + canvas + content[30:]
    path.write_bytes(content)
    return path


SIZES = [(9_460, 9_460), (13_000, 13_000), (16_383, 16_383), (60_000, 60_000), (MAX_SIDE + 1, 2)]
BOMBS = ["a.png", "a.bmp", "a.jpg", "progressive.jpeg", "a.ppm", "a.tif"]


@pytest.mark.parametrize("name", BOMBS)
def test_a_picture_that_claims_to_be_too_large_is_refused_before_it_is_decoded(
    tmp_path, tried, name
):
    """In a process that could not hold it, 64 megabytes; Pillow warns of them, which is ignored."""
    sizes = [size for size in SIZES if "jp" not in name or max(size) <= MAX_SIDE]
    readers = (read, image_shape, *(() if "jp" in name else (read_index_map,)))  # no mask is one

    def attempt():
        warnings.simplefilter("ignore")
        within(64 * MEGABYTE)
        for width, height in sizes:
            path = bomb(tmp_path, name, width, height)
            for reader in readers:
                said = refusal(lambda path=path, reader=reader: reader(path), path)
                assert f"{name} is larger than a picture may be" in said

    child = Child(attempt, tmp_path / "log")
    assert child.wait() == 0, child.said
    times = len(readers) * len(sizes)
    tried("images", "a decompression bomb", f"{REFUSED}; not decoded", times)


def test_a_webp_is_refused_before_it_takes_memory(tmp_path, tried):
    """Its decoder reserves the canvas when it opens, and takes what it draws on."""
    sizes = [size for size in SIZES if max(size) <= 16_383]  # of the format

    def attempt():
        warnings.simplefilter("ignore")
        for width, height in sizes:
            path = bomb(tmp_path, "a.webp", width, height)
            for reader in (read, image_shape):

                def refuse(path=path, reader=reader):
                    said = refusal(lambda: reader(path), path)
                    assert "a.webp is larger than a picture may be" in said

                assert grown(refuse) < 64 * MEGABYTE

    child = Child(attempt, tmp_path / "log")
    assert child.wait() == 0, child.said
    tried("images", "a decompression bomb", f"{REFUSED}; not decoded", 2 * len(sizes))


def within(more):
    """Allow this process so many bytes more than it has."""
    has = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (has + more, has + more))


@pytest.mark.slow
def test_the_limit_of_such_a_process_is_felt(tmp_path):
    path = tmp_path / "a.png"
    Image.fromarray(np.zeros((5000, 5000), np.uint8)).save(path)

    def attempt():
        within(64 * MEGABYTE)
        with pytest.raises(InputError, match=r"a.png cannot be read, for lack of memory"):
            read(path)

    child = Child(attempt, tmp_path / "log")
    assert child.wait() == 0, child.said
    assert read(path).shape == (3, 5000, 5000)


@pytest.mark.parametrize("filter", ["error", "ignore", "default"])
def test_the_sentence_is_the_same_whatever_is_done_about_warnings(tmp_path, tried, filter):
    """Pillow warns of up to twice as many pixels, and raises above."""
    said = set()
    with warnings.catch_warnings(record=True):
        warnings.simplefilter(filter)
        for width, height in SIZES:
            with pytest.raises(InputError) as caught:
                read(bomb(tmp_path, "a.png", width, height))
            said.add(str(caught.value))
    assert len(said) == 1
    assert (
        f"a.png is larger than a picture may be, {MAX_PIXELS:,} pixels and 65,535 a s" in said.pop()
    )
    tried("images", "a decompression bomb, by what is done about warnings", "the same sentence")


def test_up_to_the_limit_a_picture_is_none_too_large(tmp_path):
    with Image.open(bomb(tmp_path, "a.png", 9_459, 9_459)) as image:
        assert image.width * image.height <= MAX_PIXELS
    assert image_shape(tmp_path / "a.png") == (9_459, 9_459)
    assert image_shape(bomb(tmp_path, "a.png", MAX_SIDE, 2)) == (2, MAX_SIDE)
    with pytest.raises(InputError, match="cannot be read as an image"):  # its pixels end early
        read(bomb(tmp_path, "a.png", 9_459, 9_459))


def grown(work):
    """By how many bytes the memory of this process grew at most."""
    Path("/proc/self/clear_refs").write_text("5")
    before = status("VmRSS")
    work()
    return status("VmHWM") - before


def status(field):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field)) * 1024


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "P", "I;16"])
def test_a_picture_takes_so_much_memory_as_is_said(tmp_path, tried, mode):
    """24 bytes for each pixel at most; docs/data.md says so."""
    size = 2000
    values = np.zeros((size, size), np.uint16 if mode == "I;16" else np.uint8)
    picture = Image.fromarray(values)
    (picture if mode == "I;16" else picture.convert(mode)).save(tmp_path / "a.png")
    Image.new("L", (4, 4)).save(tmp_path / "b.png")
    upright = Images(root=str(tmp_path)).open("train")

    def attempt():
        read(tmp_path / "a.png")  # what is loaded once
        upright.image(0)
        assert grown(lambda: read(tmp_path / "a.png")) < 24 * size**2 + 8 * MEGABYTE
        assert grown(lambda: upright.image(0)) < 24 * size**2 + 8 * MEGABYTE

    child = Child(attempt, tmp_path / "log")
    assert child.wait() == 0, child.said
    tried("images", "memory while a picture is read", "below 24 bytes a pixel", times=2)


@pytest.mark.parametrize("kind", [b"zTXt", b"iTXt", b"iCCP"])
def test_a_note_that_unpacks_to_too_much_is_refused_or_left_alone(tmp_path, tried, kind):
    packed = zlib.compress(bytes(200 * MEGABYTE), 1)
    head = {b"zTXt": b"a\0\0", b"iTXt": b"a\0\1\0\0\0", b"iCCP": b"a\0\0"}[kind]
    content = png(4, 4, chunk(kind, head + packed))
    path = tmp_path / "a.png"
    path.write_bytes(content)

    def attempt():
        within(128 * MEGABYTE)
        said = refusal(lambda: read(path), path)
        assert said is None or "lack of memory" not in said
        if said is None:
            assert read(path).shape == (3, 4, 4)

    child = Child(attempt, tmp_path / "log")
    assert child.wait() == 0, child.said
    assert PngImagePlugin.MAX_TEXT_CHUNK <= MEGABYTE
    tried("images", "a PNG whose notes unpack to 200 MB", "refused, or read without the notes")


def test_masks_of_too_many_concepts_are_refused_before_they_are_made(tmp_path, tried):
    (tmp_path / "images/train").mkdir(parents=True)
    (tmp_path / "masks/train").mkdir(parents=True)
    names = [f"c{k}" for k in range(5000)]
    (tmp_path / "classes.json").write_text(str({"names": names}).replace("'", '"'))
    for part in ("images", "masks"):
        Image.new("L", (1000, 1000)).save(tmp_path / part / "train/a.png")
    split = Folder(root=str(tmp_path)).open("train")

    def attempt():
        within(128 * MEGABYTE)
        with pytest.raises(
            InputError, match=r"a.png asks for masks of 5000 concepts with 1000x1000"
        ):
            split.labels(0)

    child = Child(attempt, tmp_path / "log")
    assert child.wait() == 0, child.said
    tried("images", "masks of more than four thousand million pixels", f"{REFUSED}; not made")


@settings(max_examples=40)
@given(st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1))
def test_any_size_in_a_header_is_refused_or_small(tmp_path_factory, width, height):
    path = tmp_path_factory.getbasetemp() / "any.png"
    path.write_bytes(png(width, height)[:200])
    if not is_refused(lambda: image_shape(path), path):
        assert image_shape(path) == (height, width)
        assert width * height <= MAX_PIXELS
