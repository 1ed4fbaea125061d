"""Images that stay on the disk: the same pixels, labels, captions and weights as in memory; what is damaged
is named.
"""

import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import Cli
from PIL import Image
from safetensors.torch import load_file

from latentdiff.data import Unreadable, is_streamed, load_dataset, read_images, stream, stream_dataset
from latentdiff.data.decode import FileLocation
from latentdiff.data.resize import Fit
from latentdiff.data.stream import LazyImages
from latentdiff.errors import InputError

TRAIN = "--batch 16 --warmup 0 --bf16 off --log-every 1 --size 8 --channels 1"
VAE = f"train-vae --latent 4 --width 8 --depth 0 --steps 5 {TRAIN}"


def pixels(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (n, 8, 8), dtype=np.uint8)


def png(image: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG")
    return file.getvalue()


def write_folder(root: Path, n: int = 60) -> Path:
    """n grey images in two class folders, with captions."""
    for k, image in enumerate(pixels(n)):
        folder = root / ("even", "odd")[k % 2]
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{k:03d}.png").write_bytes(png(image))
        (folder / f"{k:03d}.txt").write_text(f"number {k}")
    return root


def write_tar(path: Path, files: dict[str, bytes]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return path


def sample(k: int, image: np.ndarray) -> dict[str, bytes]:
    key = f"{k:03d}"
    return {f"{key}.png": png(image), f"{key}.cls": b"%d" % (k % 3), f"{key}.txt": f"number {k}".encode()}


def write_shards(root: Path, n: int = 60) -> Path:
    for shard, (name, rows) in enumerate(
        {"train-0": range(25), "train-1": range(25, 50), "val-0": range(50, n)}.items()
    ):
        files: dict[str, bytes] = {}
        for k in rows:
            files |= sample(k, pixels(n)[k])
        write_tar(root / f"{name}.tar", files | {"readme.md": b"%d" % shard})
    return root


def weights(run: Path) -> dict[str, torch.Tensor]:
    newest = sorted(run.glob("checkpoint-*"))[-1]
    return load_file(newest / "vae" / "diffusion_pytorch_model.safetensors")


def test_a_streamed_folder_is_the_folder(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "images")
    whole = load_dataset(str(root), size=8, channels=1)
    stream = stream_dataset(str(root), size=8, channels=1)
    assert stream.shape == whole.shape and stream.sizes == whole.sizes and stream.classes == whole.classes
    for mine, theirs in ((stream.train, whole.train), (stream.val, whole.val), (stream.test, whole.test)):
        assert torch.equal(mine.images[:], theirs.images)
        assert (
            mine.labels is not None and theirs.labels is not None and torch.equal(mine.labels, theirs.labels)
        )
        assert mine.captions == theirs.captions
    moved = min(root.rglob("*.png"))
    moved.rename(moved.with_name("renamed.png"))
    other = stream_dataset(str(root), size=8, channels=1)
    assert other.fingerprint() != stream.fingerprint()
    moved.with_name("renamed.png").rename(moved)
    assert stream_dataset(str(root), size=8, channels=1).fingerprint() == stream.fingerprint()
    chosen = torch.tensor([5, 0, 5, 2])
    stream.train.images.prefetch([5, 2, 7])
    assert torch.equal(stream.train.images[chosen], whole.train.images[chosen])
    assert torch.equal(torch.cat(list(stream.train.images.split(7))), whole.train.images)
    assert stream.train.images[torch.tensor([], dtype=torch.int64)].shape == (0, 1, 8, 8)


def test_ordinary_folders_and_shards_are_read_as_they_always_were(tmp_path: Path) -> None:
    """Images, labels, captions and their order, as version 0.9 found them: old runs resume on the same
    data.
    """
    folder, shards = str(write_folder(tmp_path / "images")), str(write_shards(tmp_path / "shards"))
    assert load_dataset(folder, size=8, channels=1).fingerprint().startswith("612a9a3298ffb54b")
    assert stream_dataset(folder, size=8, channels=1).fingerprint().startswith("4d969cac671f9718")
    assert stream_dataset(shards, size=8, channels=1).fingerprint().startswith("df3a32893ef87916")


@pytest.mark.parametrize("splits", [("train", "val", "test"), ("train", "test"), ("train",)])
def test_what_a_folder_leaves_out_is_split_as_in_memory(splits: tuple[str, ...], tmp_path: Path) -> None:
    for split in splits:
        write_folder(tmp_path / "images" / split, 40)
    whole, stream = (
        find(str(tmp_path / "images"), size=8, channels=1) for find in (load_dataset, stream_dataset)
    )
    assert stream.sizes == whole.sizes
    for mine, theirs in ((stream.train, whole.train), (stream.val, whole.val), (stream.test, whole.test)):
        assert torch.equal(mine.images[:], theirs.images[:]) and mine.captions == theirs.captions


def test_sizes_and_channels_are_brought_to_what_is_asked(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "images")
    for size, channels, fit in ((16, 3, "crop"), ((8, 12), 1, "edge"), (16, 3, "pad"), (16, 3, "smart")):
        whole = load_dataset(str(root), size=size, channels=channels, fit=fit)
        stream = stream_dataset(str(root), size=size, channels=channels, fit=fit)
        assert torch.equal(stream.train.images[:], whole.train.images)


def test_shards_give_images_with_labels_captions_and_splits(tmp_path: Path) -> None:
    data = stream_dataset(str(write_shards(tmp_path / "shards")), size=8, channels=1)
    assert data.sizes == {"train": 45, "val": 10, "test": 5} and data.classes == ("0", "1", "2")
    expected = torch.from_numpy(pixels(60))[:, None]
    assert torch.equal(data.val.images[:], expected[50:])
    assert data.train.captions is not None and data.train.labels is not None
    numbers = [
        int(caption.split()[1]) for caption in data.train.captions
    ]  # a tenth of them became the test split
    assert numbers == sorted(set(numbers)) and set(numbers) < set(range(50))
    assert torch.equal(data.train.images[:], expected[numbers])
    assert data.train.labels.tolist() == [k % 3 for k in numbers]
    one = stream_dataset(str(tmp_path / "shards" / "train-0.tar"), size=8, channels=1)
    assert sum(one.sizes.values()) == 25 and all(one.sizes.values())  # a shard alone is split by its keys
    assert is_streamed(str(tmp_path / "shards")) and not is_streamed(str(write_folder(tmp_path / "images")))
    described = {
        "a.png": png(pixels(1)[0]),
        "a.json": json.dumps({"caption": "a  b", "label": "cat"}).encode(),
    }
    many = {f"{k}{name[1:]}": data for k in range(4) for name, data in described.items()}
    told = stream_dataset(str(write_tar(tmp_path / "told.tar", many)), size=8, channels=1)
    assert told.classes == ("cat",) and told.train.captions == ("a b",) * len(told.train)


def test_training_on_streams_is_training_in_memory(tmp_path: Path, cli: Cli) -> None:
    write_folder(tmp_path / "images")
    for name, more in (("whole", ""), ("stream", "--stream")):
        assert (found := cli(f"{VAE} --data images --name {name} {more}", cwd=tmp_path)).code == 0, found.err
    one, two = (weights(tmp_path / "runs" / name) for name in ("whole", "stream"))
    assert all(torch.equal(value, two[key]) for key, value in one.items())
    assert "images stay on the disk" in found.err
    assert cli("encode --run runs/stream", cwd=tmp_path).code == 0
    assert cli("encode --run runs/whole --out other", cwd=tmp_path).code == 0
    shards = [load_file(tmp_path / folder / "train" / "00000.safetensors") for folder in ("latents", "other")]
    assert all(torch.equal(value, shards[1][key]) for key, value in shards[0].items())
    denoiser = (
        "train-denoiser --vae runs/whole --data images --stream --T 20 --width 16 --depth 1 --steps 3"
        f" {TRAIN}"
    )
    for more in ("--name plain", "--name flipped --flip"):
        assert (found := cli(f"{denoiser} {more}", cwd=tmp_path)).code == 0, found.err


def test_training_on_shards(tmp_path: Path, cli: Cli) -> None:
    write_shards(tmp_path / "shards")
    assert (found := cli(f"{VAE} --data shards --name vae", cwd=tmp_path)).code == 0, found.err
    for words, expected in (
        ("train-cold --data shards", "tar shards and streamed images need one --size"),
        ("train-vae --data shards", "tar shards and streamed images need one --size"),
        ("train-vae --data mnist5k --stream --size 28", "expected a folder of images or tar shards"),
    ):
        bad = cli(words, cwd=tmp_path)
        assert bad.code == 1 and bad.err.count("error:") == 1 and expected in bad.err, bad.err


def test_shards_serve_where_images_are_held_in_memory(
    tmp_path: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    shards = str(write_shards(tmp_path / "shards"))
    streamed = stream_dataset(shards, size=8, channels=1)
    whole = load_dataset(shards, size=8, channels=1)
    assert whole.sizes == streamed.sizes and whole.classes == streamed.classes
    for mine, other in (
        (whole.train, streamed.train),
        (whole.val, streamed.val),
        (whole.test, streamed.test),
    ):
        assert torch.equal(mine.images, other.images[:]) and mine.captions == other.captions
        assert mine.labels is not None and other.labels is not None and torch.equal(mine.labels, other.labels)
    read = read_images(shards, split="val", fit=Fit((8, 8), 1))
    assert torch.equal(read.images, whole.val.images) and read.captions == whole.val.captions

    assert (found := cli(f"{VAE} --data shards --name vae", cwd=tmp_path)).code == 0, found.err
    for words in (
        "evaluate --run runs/vae --features mnist -n 4",
        "reconstruct --run runs/vae -n 4",
        "train-cold --data shards --size 8 --channels 1 --steps 2 --batch 8 --name cold",
        "evaluate --images shards --reference shards --size 8 --channels 1 --split val --features mnist",
    ):
        assert (found := cli(words, cwd=tmp_path)).code == 0, found.err

    monkeypatch.setattr(stream, "MAX_BYTES", 100)
    with pytest.raises(InputError, match="expected at most 100 bytes of pixels, found"):
        load_dataset(shards, size=8, channels=1)


def test_a_damaged_image_stops_the_training_and_nothing_is_lost(tmp_path: Path, cli: Cli) -> None:
    root = write_folder(tmp_path / "images")
    victim = sorted(path for path in root.rglob("*.png"))
    rows = stream_dataset(str(root), size=8, channels=1).train.images._places
    name = rows[int(first_of_step(3, len(rows)))].name
    sound = (root / name).read_bytes()
    (root / name).write_bytes(sound[:50])
    bad = cli(f"{VAE} --data images --stream --name vae", cwd=tmp_path)
    assert bad.code == 1 and bad.err.count("error:") == 1
    expected = (
        f"{name}: expected a PNG, JPEG or WEBP image, found: truncated or damaged; put a sound image of the"
        " same name"
    )
    assert expected in bad.err and "none is decoded yet" in bad.err
    assert "--resume goes on from runs/vae/checkpoint-" in bad.err and len(victim) == 60
    (root / name).write_bytes(sound)
    assert (found := cli("train-vae --resume runs/vae", cwd=tmp_path)).code == 0, found.err
    assert cli(f"{VAE} --data images --name whole", cwd=tmp_path).code == 0
    one, two = (weights(tmp_path / "runs" / run) for run in ("whole", "vae"))
    assert all(torch.equal(value, two[key]) for key, value in one.items())


def first_of_step(step: int, size: int) -> torch.Tensor:
    """An index that step ``step`` sees and no earlier one does."""
    from latentdiff.data import batch_indices

    seen = [set(batch_indices(size, batch=16, step=k, seed=0).tolist()) for k in range(step + 1)]
    return torch.tensor(sorted(seen[step] - set.union(*seen[:step]))[0])


@pytest.mark.parametrize(
    ("spoil", "expected"),
    [
        (lambda data, at: data[: at + 100], "truncated"),
        (lambda data, at: data[:at], "truncated"),
        (
            lambda data, at: data[:at] + b"noise" * 100 + bytes(12) + data[at + 512 :],
            "damaged, expected the name",
        ),
        (lambda data, at: data[:at] + bytes(512) + data[at + 512 :], "expected nothing after its end"),
        (lambda data, at: data[:at] + b"x" + data[at + 1 :], "damaged, expected the name"),
        (lambda data, at: data + data, "several in one"),
        (
            lambda data, at: data[:at] + backwards() + data[at:],
            "damaged, .*(says that it has -5000|expected the name)",
        ),
        (
            lambda data, at: data[:at] + data[: data.index(b"1.png")] + data[at:],
            "expected one image called 0, found two",
        ),
    ],
    ids=["in a header", "between images", "noise", "zeros", "checksum", "twice", "backwards", "one name"],
)
def test_no_image_of_a_damaged_shard_is_lost_in_silence(
    tmp_path: Path, spoil: Callable, expected: str
) -> None:
    """Python's tarfile takes all of these for the end of the archive, or never ends."""
    image = png(pixels(1)[0])
    shard = write_tar(tmp_path / "a.tar", {f"{k}.png": image for k in range(9)})
    data = shard.read_bytes()
    shard.write_bytes(spoil(data, data.index(b"5.png")))
    with pytest.raises(InputError, match=expected) as error:
        stream_dataset(str(shard), size=8, channels=1)
    assert "a.tar: " in str(error.value) and "\n" not in str(error.value)


def test_texts_without_an_image_are_counted_and_long_names_kept(tmp_path: Path) -> None:
    name, image = "n" * 120, png(pixels(1)[0])
    files = {f"{name}{k}.png": image for k in range(4)} | {f"{name}{k}.txt": b"text" for k in range(4)}
    for form in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        shard = tmp_path / f"{form}.tar"
        with tarfile.open(shard, "w", format=form) as archive:
            for key, data in files.items():
                member = tarfile.TarInfo(key)
                member.size = len(data)
                archive.addfile(member, io.BytesIO(data))
        whole = stream_dataset(str(shard), size=8, channels=1)
        assert sum(whole.sizes.values()) == 4 and not whole.notes
        data, at = shard.read_bytes(), shard.read_bytes().index(f"{name}1.png".encode())
        shard.write_bytes(data[:at] + b"m" * 110 + data[at + 110 :])
        (note,) = stream_dataset(str(shard), size=8, channels=1).notes
        assert note.startswith("left out 1: 1 without an image of their name (") and f"{name}1.txt" in note
        if form == tarfile.GNU_FORMAT:
            shard.write_bytes(data[:at] + bytes(len(name) + 5) + data[at + len(name) + 5 :])
            with pytest.raises(InputError, match="damaged, expected a name for the file at byte"):
                stream_dataset(str(shard), size=8, channels=1)


def backwards() -> bytes:
    """A member whose extended header says that it has -5000 bytes."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as archive:
        member = tarfile.TarInfo("back.png")
        member.pax_headers = {"size": "-5000"}
        archive.addfile(member)
    return file.getvalue().rstrip(b"\0").ljust(3 * 512, b"\0")


def test_shards_that_are_damaged_or_hostile_get_one_line(tmp_path: Path) -> None:
    image = png(pixels(1)[0])
    good = {f"{k}.png": image for k in range(4)}
    link = tmp_path / "link.tar"
    with tarfile.open(link, "w") as archive:
        member = tarfile.TarInfo("0.png")
        member.type, member.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(member)
    cut = write_tar(tmp_path / "cut.tar", {**good, "9.png": image * 99})
    cut.write_bytes(cut.read_bytes()[: 1024 * 6])
    with tarfile.open(tmp_path / "gz.tar", "w:gz") as archive:
        archive.addfile(tarfile.TarInfo("0.png"))
    (tmp_path / "noise.tar").write_bytes(b"noise" * 500)
    (tmp_path / "empty.tar").write_bytes(b"")
    bad = {
        link: "0.png is a link or has holes, expected a file",
        cut: "truncated",
        tmp_path / "gz.tar": "expected an uncompressed tar file",
        tmp_path / "noise.tar": "expected an uncompressed tar file",
        tmp_path / "empty.tar": "expected an uncompressed tar file",
        write_tar(tmp_path / "few.tar", {"0.png": image}): "at least 3 images",
        write_tar(
            tmp_path / "some.tar", {**good, "0.cls": b"1"}
        ): "expected a label for every image or for none",
        write_tar(
            tmp_path / "mixed.tar", {**good, **{f"{k}.cls": (b"1", b"cat")[k % 2] for k in range(4)}}
        ): "found both",
        write_tar(
            tmp_path / "minus.tar", {**good, **{f"{k}.cls": b"-1" for k in range(4)}}
        ): "expected integer labels",
        write_tar(
            tmp_path / "json.tar", {**good, "0.json": b"[" * 99999}
        ): "beside it: expected a JSON object",
        write_tar(
            tmp_path / "odd.tar", {**good, "0.json": b'{"label": [1]}'}
        ): "expected an integer or a string as label",
        write_tar(tmp_path / "text.tar", {**good, "0.txt": b"\xff\xfe"}): "expected UTF-8 text",
        write_tar(tmp_path / "long.tar", {**good, "0.txt": b"a" * (2**20 + 1)}): "expected at most 1048576",
    }
    for path, expected in bad.items():
        with pytest.raises(InputError) as error:
            stream_dataset(str(path), size=8, channels=1)
        assert expected in str(error.value) and "\n" not in str(error.value), path


def test_what_is_announced_is_decoded_once_and_kept_within_bounds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    places = []
    for k, image in enumerate(pixels(20)):
        (tmp_path / f"{k}.png").write_bytes(png(image))
        places.append(FileLocation(tmp_path / f"{k}.png", f"{k}.png"))
    images, decoded = LazyImages(places, Fit((8, 8), 1)), list[int]()
    image_of = images._image
    monkeypatch.setattr(images, "_image", lambda k: (decoded.append(k), image_of(k))[1])
    monkeypatch.setattr(stream, "AHEAD", 4)
    images.prefetch([3, 4, 3])
    assert torch.equal(images[torch.tensor([3, 4])], torch.from_numpy(pixels(20)[[3, 4]])[:, None])
    assert sorted(decoded) == [3, 4] and not images._ahead
    images.prefetch(range(20))
    assert len(images._ahead) == 4
    (tmp_path / "11.png").unlink()
    with pytest.raises(Unreadable, match=r"11\.png: expected a PNG, JPEG or WEBP image, found: unreadable"):
        images[torch.tensor([11])]


@pytest.mark.parametrize("key", ["img_v1.{}", "a.b/c.{}"])
def test_names_with_several_dots_are_images_with_their_texts(tmp_path: Path, key: str) -> None:
    files: dict[str, bytes] = {}
    for k, image in enumerate(pixels(12)):
        name = key.format(k) if k % 2 else f"{k:03d}"
        files |= {
            f"{name}.png": png(image),
            f"{name}.txt": f"number {k}".encode(),
            f"{name}.cls": b"%d" % (k % 2),
        }
    data = load_dataset(str(write_tar(tmp_path / "train-0.tar", files)), size=8, channels=1)
    assert sum(data.sizes.values()) == data.report.used == 12 and data.notes == () and data.num_classes == 2
    for split in (data.train, data.val, data.test):
        assert split.captions is not None and split.labels is not None
        rows = [int(caption.split()[1]) for caption in split.captions]
        assert torch.equal(split.images[:, 0], torch.from_numpy(pixels(12)[rows]))
        assert split.labels.tolist() == [row % 2 for row in rows]


def test_members_of_shards_that_are_not_used_are_counted(tmp_path: Path) -> None:
    image = png(pixels(1)[0])
    files = {f"{k}.png": image for k in range(4)} | {"picture": image, "old.HEIC": image, "x.jfif": image}
    files |= {
        "0.seg.png": image,
        "1.npy": b"x",
        "readme.md": b"x",
        "y.gif": b"GIF89a",
        "._0.png": b"x",
        "9.txt": b"x",
    }
    files |= {"__MACOSX/z.png": image, "./a/.cache/y.png": image, "a/.b.jpg": image}
    write_tar(tmp_path / "shards" / "train-0.tar", files)
    write_tar(tmp_path / "shards" / "other-0.tar", {"a.png": image, "b.png": image})
    for name in ("index.json", ".DS_Store"):
        (tmp_path / "shards" / name).write_text("x")
    data = stream_dataset(str(tmp_path / "shards"), size=8, channels=1)
    assert sum(data.sizes.values()) == data.report.used == 7
    (note,) = data.notes
    for part in (
        "left out 13: ",
        "5 hidden or system (first: .DS_Store)",
        "2 in shards not called train, val or test (first: other-0.tar/a)",
        "2 beside the image of their sample (first: train-0.tar/0.seg.png)",
        "1 not a tar shard (index.json)",
        "1 not an image (.md) (train-0.tar/readme.md)",
        "1 unsupported format GIF (train-0.tar/y.gif)",
        "1 without an image of their name (train-0.tar/9.txt)",
    ):
        assert part in note or part.replace("a)", "/a)") in note, (part, note)


def test_what_a_streamed_training_converted_is_told_at_its_end(tmp_path: Path, cli: Cli) -> None:
    root = write_folder(tmp_path / "images", 20)
    for k in range(20, 30):
        Image.fromarray(np.zeros((8, 8, 4), dtype=np.uint8)).save(root / "odd" / f"{k}.png")
    for words in (f"{VAE} --name vae --data images --stream", "encode --run runs/vae"):
        found = cli(words, cwd=tmp_path)
        assert found.code == 0, found.err
        assert found.err.count("data: converted ") == 1 and " alpha (first: odd/2" in found.err, found.err


def test_class_folders_inside_shards_and_the_option_for_them_are_told_of(tmp_path: Path) -> None:
    image = png(pixels(1)[0])
    files = {f"./{k % 3}/{k}.png": image for k in range(12)}
    shard = write_tar(tmp_path / "cls.tar", files)
    (note,) = stream_dataset(str(shard), size=8, channels=1).notes
    assert (
        note.startswith("no labels: folders inside shards (0, 1, 2) are no class folders")
        and "KEY.cls" in note
    )
    for read in (stream_dataset, load_dataset):
        first, second = read(str(shard), size=8, channels=1, class_folders="only").notes
        assert first.startswith(
            "--class-folders only changes nothing: it is for folders of images, labels of shards"
        )
        assert second == note
    labels = {f"{name.removesuffix('.png')}.cls": b"%d" % (k % 3) for k, name in enumerate(files)}
    assert stream_dataset(str(write_tar(shard, files | labels)), size=8, channels=1).notes == ()


def test_shards_named_like_splits_that_are_none_are_told_of(tmp_path: Path) -> None:
    image = png(pixels(1)[0])
    for name in ("training-0", "test-0", "data"):
        write_tar(tmp_path / f"{name}.tar", {f"{k}.png": image for k in range(4)})
    (note,) = stream_dataset(str(tmp_path), size=8, channels=1).notes
    assert note.startswith(
        "shards named like splits (test-0.tar, training-0.tar) are read as any other shard"
    )


def test_the_report_says_whether_images_were_decoded(tmp_path: Path, cli: Cli) -> None:
    write_folder(tmp_path / "images", 20)
    for more, decoded in (("", True), ("--stream", False)):
        found = cli(f"{VAE} --data images --dry-run {more} --json", cwd=tmp_path)
        assert json.loads(found.out)["data"]["report"]["decoded"] is decoded
