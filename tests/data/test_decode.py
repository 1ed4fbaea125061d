"""One image file to pixels, sizes and channels: odd files converted, hostile files refused."""

import io
import os
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms, ImageOps

from latentdiff.data.decode import (
    FORMATS,
    HEAD_BYTES,
    OTHER_FORMATS,
    Decoded,
    RefusedImage,
    decode_file,
    format_of,
)
from latentdiff.data.resize import FITS, Fit, resize_effects, resized, set_channels

RGB = np.random.default_rng(1).integers(0, 256, (6, 8, 3), dtype=np.uint8)
RGBA = np.dstack([RGB, np.random.default_rng(2).integers(0, 256, (6, 8), dtype=np.uint8)])


def save(path: Path, array: np.ndarray | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(RGB if array is None else array).save(path)
    return path


def decoded(path: Path) -> Decoded:
    result = decode_file(path)
    assert isinstance(result, Decoded), result
    return result


def on_white(rgba: np.ndarray) -> np.ndarray:
    alpha = rgba[..., 3:] / 255
    return np.floor(rgba[..., :3] * alpha + 255 * (1 - alpha) + 0.5).astype(np.uint8)


def test_plain_formats_are_decoded(tmp_path: Path) -> None:
    assert np.array_equal(decoded(save(tmp_path / "a.png")).pixels, RGB)
    Image.fromarray(RGB).save(tmp_path / "a.webp", lossless=True)
    assert np.array_equal(decoded(tmp_path / "a.webp").pixels, RGB)
    smooth = np.full((16, 16, 3), (200, 100, 50), dtype=np.uint8)
    Image.fromarray(smooth).save(tmp_path / "a.JPG", quality=95)
    assert np.abs(decoded(tmp_path / "a.JPG").pixels.astype(int) - smooth).max() <= 3
    assert decoded(tmp_path / "a.JPG").conversions == ()


def test_grey_pixels_stored_as_rgb_count_as_grey(tmp_path: Path) -> None:
    grey = RGB[..., :1]
    assert np.array_equal(decoded(save(tmp_path / "a.png", np.repeat(grey, 3, axis=2))).pixels, grey)
    Image.fromarray(grey[..., 0] > 127).save(tmp_path / "b.png")
    assert np.array_equal(decoded(tmp_path / "b.png").pixels, (grey > 127).astype(np.uint8) * 255)


def test_alpha_and_palette_are_converted(tmp_path: Path) -> None:
    result = decoded(save(tmp_path / "a.png", RGBA))
    assert result.conversions == ("alpha",)
    assert np.array_equal(result.pixels, on_white(RGBA))
    Image.fromarray(RGBA).convert("LA").save(tmp_path / "la.png")
    assert decoded(tmp_path / "la.png").conversions == ("alpha",)
    image = Image.fromarray(np.where(RGB > 127, 255, 0).astype(np.uint8)).convert("P")
    image.save(tmp_path / "p.png")
    assert decoded(tmp_path / "p.png").conversions == ("palette",)
    assert np.array_equal(decoded(tmp_path / "p.png").pixels, np.asarray(image.convert("RGB")))
    image.save(tmp_path / "t.png", transparency=image.getpixel((0, 0)))
    assert decoded(tmp_path / "t.png").conversions == ("palette", "alpha")
    assert decoded(tmp_path / "t.png").pixels[0, 0].tolist() == [255] * 3


PEAKS = """
import os, sys
from pathlib import Path
from latentdiff.data.decode import decode_file
for name in sys.argv[1:]:
    child = os.fork()
    if child == 0:
        os._exit(0 if name == "nothing" or decode_file(Path(name)).pixels.size else 1)
    _, status, usage = os.wait4(child, 0)
    print(status, usage.ru_maxrss)
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "wait4"), reason="the system tells no peak of a process")
def test_a_large_image_is_held_twice_at_most(tmp_path: Path) -> None:
    """Pillow keeps RGB in 4 bytes a pixel, an array takes 3: the pieces between them are small."""
    exif, side = Image.Exif(), 4096
    exif[0x0112] = 6
    names = [tmp_path / f"{name}.png" for name in ("plain", "turned", "alpha", "palette", "grey")]
    image = Image.new("RGB", (side, side), (10, 20, 30))
    for name, picture in zip(
        names, (image, image, image.convert("RGBA"), image.quantize(4), image.convert("L")), strict=True
    ):
        picture.save(name, compress_level=1, **({"exif": exif} if name.stem == "turned" else {}))
    command = [sys.executable, "-c", PEAKS, "nothing", *map(str, names)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    (status, nothing), *measured = (
        [int(number) for number in line.split()] for line in done.stdout.splitlines()
    )
    assert {status, *(each for each, _ in measured)} == {0}
    bytes_a_pixel = {
        name.stem: 1024 * (peak - nothing) / side**2 for name, (_, peak) in zip(names, measured, strict=True)
    }
    assert max(bytes_a_pixel.values()) < 12, bytes_a_pixel  # in one piece 14, and 48 with alpha


@pytest.mark.parametrize("colored_at", [None, (0, 0), (1, 1200), (699, 1499)])
def test_large_images_are_decoded_in_parts_to_the_same_pixels(
    tmp_path: Path, colored_at: tuple[int, int] | None
) -> None:
    pixels = np.repeat(np.random.default_rng(3).integers(0, 256, (1500, 700, 1), dtype=np.uint8), 3, axis=2)
    if colored_at is not None:
        pixels[colored_at[1], colored_at[0]] = (1, 2, 3)
    expected = pixels[..., :1] if colored_at is None else pixels
    assert np.array_equal(decoded(save(tmp_path / "a.png", pixels)).pixels, expected)
    wide = np.broadcast_to(pixels[:, :1], (1500, 700, 3)).reshape(1, -1, 3)
    assert np.array_equal(
        decoded(save(tmp_path / "wide.png", wide)).pixels, wide[..., :1] if colored_at != (0, 0) else wide
    )


def test_cmyk_is_converted(tmp_path: Path) -> None:
    smooth = Image.new("RGB", (16, 16), (200, 100, 50))
    smooth.convert("CMYK").save(tmp_path / "a.jpg", quality=95)
    result = decoded(tmp_path / "a.jpg")
    assert result.conversions == ("CMYK",)
    assert np.abs(result.pixels.astype(int) - np.asarray(smooth)).max() <= 4


def png(width: int, height: int, *, depth: int = 8, kind: int = 0, data: bytes = b"") -> bytes:
    """A PNG file from its raw scan lines."""
    chunks = (
        (b"IHDR", struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, 0)),
        (b"IDAT", zlib.compress(data)),
    )
    body = b"\x89PNG\r\n\x1a\n"
    for name, content in (*chunks, (b"IEND", b"")):
        body += (
            struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
        )
    return body


@pytest.mark.parametrize(("kind", "samples"), [(0, 1), (2, 3), (4, 2), (6, 4)])
def test_16_bit_images_keep_the_high_byte(tmp_path: Path, kind: int, samples: int) -> None:
    values = np.random.default_rng(kind).integers(0, 65536, (3, 2, samples))
    if samples in (2, 4):
        values[..., -1] = 65535
    lines = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values.reshape(3, -1))
    (tmp_path / "a.png").write_bytes(png(2, 3, depth=16, kind=kind, data=lines))
    result = decoded(tmp_path / "a.png")
    colors = 1 if samples < 3 else 3
    assert result.conversions == (("16-bit",) if samples % 2 else ("16-bit", "alpha"))
    assert np.array_equal(result.pixels, values[..., :colors] >> 8)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_undone(tmp_path: Path, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(RGB).save(tmp_path / "a.png", exif=exif)
    with Image.open(tmp_path / "a.png") as image:
        expected = np.asarray(ImageOps.exif_transpose(image))
    result = decoded(tmp_path / "a.png")
    assert np.array_equal(result.pixels, expected)
    assert result.conversions == (() if orientation == 1 else ("EXIF-rotated",))


@pytest.mark.parametrize("suffix", ["png", "webp"])
def test_first_frame_of_an_animation_is_taken(tmp_path: Path, suffix: str) -> None:
    first, second = Image.new("RGB", (4, 4), (255, 0, 0)), Image.new("RGB", (4, 4), (0, 0, 255))
    first.save(tmp_path / f"a.{suffix}", save_all=True, append_images=[second], lossless=True)
    result = decoded(tmp_path / f"a.{suffix}")
    assert result.pixels[0, 0].tolist() == [255, 0, 0]
    assert "animated (first frame)" in result.conversions


def test_wrong_suffix_is_accepted_for_allowed_formats_alone(tmp_path: Path) -> None:
    save(tmp_path / "a.png").rename(tmp_path / "a.jpg")
    assert decoded(tmp_path / "a.jpg").conversions == ("wrong suffix",)
    save(tmp_path / "b.gif").rename(tmp_path / "b.png")
    assert decode_file(tmp_path / "b.png") == RefusedImage("not a PNG, JPEG or WEBP image")


def test_one_pixel_image_is_counted(tmp_path: Path) -> None:
    assert decoded(save(tmp_path / "a.png", RGB[:1, :1])).conversions == ("1x1",)


def test_hostile_files_are_refused_with_the_reason(tmp_path: Path) -> None:
    whole = save(
        tmp_path / "whole.png", np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    )
    cut = tmp_path / "cut.png"
    cut.write_bytes(whole.read_bytes()[:5000])
    assert decode_file(cut) == RefusedImage("truncated or damaged")
    for side, expected in (
        (8193, "too large"),
        (10_000, "too large"),
        (60_000, "too large"),
        (100, "truncated"),
    ):
        cut.write_bytes(png(side, side))
        result = decode_file(cut)
        assert isinstance(result, RefusedImage) and result.reason.startswith(expected)
    cut.write_bytes(b"")
    assert decode_file(cut) == RefusedImage("empty")
    cut.write_bytes(b"<html>")
    assert decode_file(cut) == RefusedImage("not a PNG, JPEG or WEBP image")
    os.mkfifo(tmp_path / "pipe.png")
    assert decode_file(tmp_path / "pipe.png") == RefusedImage("not a regular file")
    assert isinstance(decode_file(tmp_path / "gone.png"), RefusedImage)


def test_grey_is_pillows_luma() -> None:
    expected = np.asarray(Image.fromarray(RGB).convert("L"))[..., None]
    assert np.array_equal(set_channels(RGB, 1), expected)


HALVES = np.zeros((40, 80, 3), dtype=np.uint8)
HALVES[:, :20], HALVES[:, 20:60], HALVES[:, 60:] = (255, 0, 0), (0, 255, 0), (0, 0, 255)


def test_crop_is_shorter_side_to_size_then_the_center() -> None:
    whole = resized(HALVES, (20, 40), "stretch")
    assert np.array_equal(resized(HALVES, (20, 20), "crop"), whole[:, 10:30])
    upright = HALVES.transpose(1, 0, 2)
    assert np.array_equal(resized(upright, (20, 20), "crop"), resized(upright, (40, 20), "stretch")[10:30])


def test_stretch_keeps_everything() -> None:
    result = resized(HALVES, (20, 20), "stretch")
    assert result[10, [2, 10, 17]].tolist() == [[255, 0, 0], [0, 255, 0], [0, 0, 255]]


def test_edge_keeps_the_shape_and_repeats_the_border() -> None:
    result = resized(HALVES, (20, 20), "edge")
    assert result.shape == (20, 20, 3)
    assert np.array_equal(result[5:15], resized(HALVES, (10, 20), "stretch"))
    assert (result[:5] == result[5]).all() and (result[15:] == result[14]).all()


@pytest.mark.parametrize("mode", FITS)
@pytest.mark.parametrize("size", [(7, 5), (5, 7), (1, 1), (64, 3)])
def test_every_mode_gives_the_size_and_keeps_constants(mode: str, size: tuple[int, int]) -> None:
    for shape in ((1, 1, 1), (3, 50, 3), (50, 3, 1), (8, 8, 3)):
        result = resized(np.full(shape, 77, dtype=np.uint8), size, mode)
        assert result.shape == (*size, shape[2])
        assert (result == 77).all()


D50_SRGB = {
    "rXYZ": (0.4360, 0.2225, 0.0139),
    "gXYZ": (0.3851, 0.7169, 0.0971),
    "bXYZ": (0.1431, 0.0606, 0.7141),
}
D50_P3 = {
    "rXYZ": (0.5151, 0.2412, -0.0011),
    "gXYZ": (0.2919, 0.6922, 0.0419),
    "bXYZ": (0.1572, 0.0666, 0.7841),
}


def icc(space: bytes, gamma: float, primaries: dict[str, tuple[float, float, float]]) -> bytes:
    """A minimal ICC profile (ICC.1:2001-04) of matrix and gamma, or of gamma alone for grey."""

    def xyz(values: tuple[float, ...]) -> bytes:
        return b"XYZ " + bytes(4) + b"".join(struct.pack(">i", round(65536 * value)) for value in values)

    curve = b"curv" + bytes(4) + struct.pack(">IHxx", 1, round(256 * gamma))
    tags = {"wtpt": xyz((0.9642, 1.0, 0.8249)), **{name: xyz(values) for name, values in primaries.items()}}
    tags |= {
        "desc": b"desc" + bytes(4) + struct.pack(">I", 2) + b"x\0" + bytes(79),
        "cprt": b"text" + bytes(4) + b"x\0\0\0",
    }
    tags |= dict.fromkeys(("kTRC",) if space == b"GRAY" else ("rTRC", "gTRC", "bTRC"), curve)
    table, body, at = struct.pack(">I", len(tags)), b"", 128 + 4 + 12 * len(tags)
    for name, data in tags.items():
        data += bytes(-len(data) % 4)
        table += name.encode() + struct.pack(">II", at + len(body), len(data))
        body += data
    header = (
        struct.pack(">I4xI", 128 + len(table) + len(body), 0x02400000) + b"mntr" + space + b"XYZ " + bytes(12)
    )
    header = (header + b"acsp").ljust(68, b"\0") + b"".join(
        struct.pack(">i", round(65536 * v)) for v in (0.9642, 1, 0.8249)
    )
    return header.ljust(128, b"\0") + table + body


def encoded(light: np.ndarray) -> np.ndarray:
    """Linear light in [0, 1] as sRGB levels (IEC 61966-2-1)."""
    return 255 * np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)


RAMP = np.arange(256, dtype=np.uint8).reshape(16, 16)


@pytest.mark.parametrize(
    ("mode", "suffix"),
    [("L", "png"), ("LA", "png"), ("RGB", "png"), ("RGBA", "png"), ("P", "png"), ("RGB", "webp")],
)
def test_a_linear_profile_is_converted_to_srgb(tmp_path: Path, mode: str, suffix: str) -> None:
    image = Image.fromarray(RAMP)
    image = image.quantize(256) if mode == "P" else image.convert(mode)
    before = np.asarray(image.convert("L"))
    profile = icc(b"GRAY", 1.0, {}) if mode in ("L", "LA") else icc(b"RGB ", 1.0, D50_SRGB)
    image.save(tmp_path / f"a.{suffix}", icc_profile=profile, lossless=True)
    result = decoded(tmp_path / f"a.{suffix}")
    assert "color profile to sRGB" in result.conversions
    assert result.pixels.shape == (16, 16, 1)  # grey stays grey
    assert np.abs(result.pixels[..., 0] - encoded(before / 255)).max() <= 1.5
    assert int(result.pixels.reshape(-1)[64]) - 64 > 60 or mode == "P"  # it was read 60 levels too dark


def test_a_wide_gamut_profile_is_converted_and_transparency_kept(tmp_path: Path) -> None:
    colour = np.full((4, 4, 4), (200, 100, 50, 255), dtype=np.uint8)
    colour[0, 0, 3] = 0
    Image.fromarray(colour).save(tmp_path / "a.png", icc_profile=icc(b"RGB ", 2.2, D50_P3))
    result = decoded(tmp_path / "a.png")
    light = np.linalg.solve(np.transpose(list(D50_SRGB.values())), np.transpose(list(D50_P3.values())))
    expected = encoded(np.clip(light @ (np.array([200, 100, 50]) / 255) ** 2.2, 0, 1))
    assert result.conversions == ("color profile to sRGB", "alpha")
    assert np.abs(result.pixels[1, 1] - expected).max() <= 2 and result.pixels[0, 0].tolist() == [255] * 3


@pytest.mark.parametrize("kind", ["sRGB of LittleCMS", "damaged", "of another space", "none"])
def test_pixels_of_srgb_and_unusable_profiles_are_left_alone(tmp_path: Path, kind: str) -> None:
    profile = {
        "sRGB of LittleCMS": ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes(),
        "damaged": b"noise" * 50,
        "of another space": icc(b"GRAY", 1.0, {}),
        "none": None,
    }[kind]
    Image.fromarray(RGB).save(tmp_path / "a.png", icc_profile=profile)
    result = decoded(tmp_path / "a.png")
    assert np.array_equal(result.pixels, RGB)
    ignored = ("unusable color profile (ignored)",)
    assert result.conversions == (ignored if kind in ("damaged", "of another space") else ())


@pytest.mark.parametrize(
    ("gamma", "space", "converted"), [(100000, False, True), (45455, False, False), (100000, True, False)]
)
def test_the_gamma_of_a_png_is_followed(tmp_path: Path, gamma: int, space: bool, converted: bool) -> None:
    save(tmp_path / "a.png", RAMP)
    data = (tmp_path / "a.png").read_bytes()
    chunks = b""
    for name, content in ((b"gAMA", struct.pack(">I", gamma)), *([(b"sRGB", b"\0")] if space else [])):
        chunks += (
            struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
        )
    (tmp_path / "a.png").write_bytes(data[:33] + chunks + data[33:])
    result = decoded(tmp_path / "a.png")
    expected = encoded(RAMP / 255) if converted else RAMP
    assert np.abs(result.pixels[..., 0] - expected).max() <= 0.5
    assert result.conversions == (("gamma to sRGB",) if converted else ())


@pytest.mark.parametrize(
    ("shape", "size", "effects"),
    [
        ((64, 64), (32, 32), {"crop": (), "stretch": (), "pad": ()}),
        ((20, 40), (32, 32), {"crop": ("enlarged",), "stretch": ("enlarged",), "pad": ()}),
        ((16, 16), (32, 32), dict.fromkeys(("crop", "stretch", "pad"), ("enlarged",))),
        (
            (64, 129),
            (32, 32),
            {
                "crop": ("cropped to less than half",),
                "stretch": ("stretched to more than twice the aspect ratio",),
                "pad": ("padded to more than twice the area",),
            },
        ),
        ((64, 128), (32, 32), {"crop": (), "stretch": (), "pad": ()}),
        ((8, 8), (8, 8), {"crop": (), "stretch": (), "pad": ()}),
    ],
)
def test_side_effects_of_resizing_are_named(
    shape: tuple[int, int], size: tuple[int, int], effects: dict[str, tuple[str, ...]]
) -> None:
    assert {mode: resize_effects(shape, size, mode) for mode in effects} == effects


@pytest.mark.parametrize("kind", [*FORMATS, *OTHER_FORMATS])
def test_formats_are_known_by_their_first_bytes(tmp_path: Path, kind: str) -> None:
    file = io.BytesIO()
    try:
        Image.fromarray(RGB).save(file, kind)
    except (OSError, KeyError):
        pytest.skip(f"this Pillow does not write {kind}")
    assert format_of(file.getvalue()[:HEAD_BYTES]) == kind
    assert format_of(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic") == "HEIF"
    for other in (b"", b"plain text", b"P", b"II*", b"\0" * 64):
        assert format_of(other) is None


@pytest.mark.parametrize(
    ("least", "expected"), [(0, 800), (1000, 800), (401, 800), (300, 400), (150, 200), (1, 100)]
)
def test_a_large_jpeg_is_decoded_no_larger_than_needed(tmp_path: Path, least: int, expected: int) -> None:
    """At a half, a quarter or an eighth, both sides of ``least`` pixels or more; turned as its head says."""
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (1200, 800), "teal").save(tmp_path / "a.jpg", exif=exif)
    Image.new("RGB", (1200, 800), "teal").save(tmp_path / "a.png")
    found, whole = decode_file(tmp_path / "a.jpg", least=least), decode_file(tmp_path / "a.png", least=least)
    assert isinstance(found, Decoded) and isinstance(whole, Decoded)
    assert found.pixels.shape == (expected * 3 // 2, expected, 3) and "EXIF-rotated" in found.conversions
    assert whole.pixels.shape == (800, 1200, 3)


@pytest.mark.parametrize("fit", FITS)
def test_reduced_decoding_gives_nearly_the_same_images(tmp_path: Path, fit: str) -> None:
    rng = np.random.default_rng(0)
    pixels = np.full((40, 60, 3), 120, np.uint8)
    pixels[5:35, 8:30] = rng.integers(0, 255, (30, 22, 3))  # where a smart crop looks
    Image.fromarray(pixels).resize((1200, 800)).save(tmp_path / "a.jpg", quality=95)
    how = Fit(size=(32, 32), fit=fit)
    whole, reduced = decode_file(tmp_path / "a.jpg"), decode_file(tmp_path / "a.jpg", least=how.least)
    assert isinstance(whole, Decoded) and isinstance(reduced, Decoded)
    assert reduced.pixels.shape[0] < whole.pixels.shape[0]
    off = np.abs(how.resized(reduced.pixels).astype(int) - how.resized(whole.pixels).astype(int))
    assert off.max() <= (8 if fit == "smart" else 3) and off.mean() < 1  # its window moves by a little


def test_the_nearest_pixel_is_one_of_the_file() -> None:
    assert Fit(size=(8, 8), resize="nearest").least == Fit().least == 0 < Fit(size=(8, 8)).least
