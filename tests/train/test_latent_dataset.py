"""Encoded data sets: training on them is training on their images, to the bit; what is damaged is named."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from helpers import Cli, reseal
from safetensors.torch import load_file, save_file

from latentdiff.data import Dataset, Split, Unreadable
from latentdiff.errors import InputError
from latentdiff.nn import VAEConfig, build
from latentdiff.pipeline.codec import LatentStatistics, VAECodec
from latentdiff.train import latent_dataset
from latentdiff.train.latent_dataset import is_encoded, load_encoded, write_encoded

CPU = torch.device("cpu")
TRAIN = "train-denoiser --batch 16 --warmup 0 --bf16 off --log-every 1 --T 20 --width 16 --depth 1 --steps 6"


def weights(run: Path) -> dict[str, torch.Tensor]:
    (file,) = run.glob("checkpoint-*/denoiser/*.safetensors")
    return load_file(file)


@pytest.fixture(scope="module")
def folder(tiny_folder: Path, tiny_vae_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working folder with tiny.npz and its latents; only to read."""
    from helpers import run_cli

    here = tmp_path_factory.mktemp("encoded")
    shutil.copy(tiny_folder / "tiny.npz", here)
    result = run_cli(f"encode --run {tiny_vae_run} --data tiny.npz --json", cwd=here)
    assert result.code == 0, result.err
    answer = json.loads(result.out)
    assert answer["wrote"] == "latents" and answer["latent"] == [4] and answer["bytes"] > 0
    return here


@pytest.mark.parametrize("kind", ["sample", "mean"])
def test_a_denoiser_trained_on_latents_is_the_one_trained_on_images(
    kind: str, folder: Path, tiny_vae_run: Path, tmp_path: Path, cli: Cli
) -> None:
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    for name, data in (("images", f"tiny.npz --vae {tiny_vae_run}"), ("latents", "latents")):
        result = cli(f"{TRAIN} --posterior {kind} --data {data} --name {name}", cwd=tmp_path)
        assert result.code == 0, result.err
    one, two = (weights(tmp_path / "runs" / name) for name in ("images", "latents"))
    assert one.keys() == two.keys()
    for key, value in one.items():
        assert torch.equal(value, two[key]), key
    (checkpoint,) = (tmp_path / "runs" / "latents").glob("checkpoint-*")
    assert cli(f"sample --run {checkpoint} -n 4 --steps 2", cwd=tmp_path).code == 0
    index = json.loads((checkpoint / "model_index.json").read_text())
    assert index["data"] == "tiny.npz" and index["classes"] and index["class_counts"]


def test_training_on_latents_resumes_and_knows_its_data(folder: Path, tmp_path: Path, cli: Cli) -> None:
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    assert cli(f"{TRAIN} --data latents --name run", cwd=tmp_path).code == 0
    assert cli("train-denoiser --resume runs/run --steps 8", cwd=tmp_path).code == 0
    assert (
        cli("encode --run latents --data tiny.npz --fp16 --out latents --overwrite", cwd=tmp_path).code == 0
    )
    changed = cli("train-denoiser --resume runs/run --steps 10", cwd=tmp_path)
    assert changed.code == 1 and "other images" in changed.err
    assert cli(f"{TRAIN} --data latents --name half", cwd=tmp_path).code == 0


def test_files_beside_latents_are_counted(folder: Path, tmp_path: Path, cli: Cli) -> None:
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    (tmp_path / "latents" / "train" / "00001.safetensors").write_bytes(b"left behind")
    (tmp_path / "latents" / ".DS_Store").touch()
    found = cli("datasets latents --json", cwd=tmp_path)
    assert found.code == 0 and "data: left out 2: 2 not in the manifest (first: .DS_Store)\n" in found.err
    answer = json.loads(found.out)
    assert answer["images"] == {"train": 43, "val": 5} and sum(answer["classes"]["bee"].values()) > 0
    plan = cli(f"{TRAIN} --data latents --dry-run --json", cwd=tmp_path)
    assert "not in the manifest" in plan.err and json.loads(plan.out)["data"]["class_counts"]["bee"] > 0
    chosen = cli(f"{TRAIN} --data latents --class-folders only", cwd=tmp_path)
    assert "--class-folders comes too late" in chosen.err


def test_what_latents_cannot_do_is_said(folder: Path, tmp_path: Path, cli: Cli) -> None:
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    for words, expected in (
        (f"{TRAIN} --data latents --flip", "--flip comes too late"),
        (f"{TRAIN} --data latents --size 16", "--size comes too late"),
        (f"{TRAIN} --data latents --pixel", "expected neither --pixel nor --vae"),
        (f"{TRAIN} --data latents --vae latents", "expected neither --pixel nor --vae"),
        ("train-vae --data latents --latent 4 --steps 1", "expected images, found latents"),
        ("evaluate --run latents --what vae --data latents", "expected images, found latents"),
        ("encode", "no VAE run in runs/"),
        ("encode --run latents --data mnist5k", "the VAE is for"),
        ("encode --run latents --data tiny.npz --out tiny.npz", "tiny.npz"),
    ):
        bad = cli(words, cwd=tmp_path)
        assert bad.code in (1, 2) and bad.err.count("error:") == 1 and expected.lower() in bad.err.lower(), (
            bad.err
        )


@pytest.mark.parametrize("name", ["precious.png", "train/mine.txt", ".git/config"])
def test_files_beside_latents_are_not_lost(name: str, folder: Path, tmp_path: Path, cli: Cli) -> None:
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    (tmp_path / "latents" / name).parent.mkdir(exist_ok=True)
    (tmp_path / "latents" / name).write_text("mine")
    bad = cli("encode --run latents --data tiny.npz --out latents --overwrite", cwd=tmp_path)
    assert (
        bad.code == 1 and bad.err.startswith(f"error: latents: holds {name}, ") and bad.err.count("\n") == 1
    ), bad.err
    assert (tmp_path / "latents" / name).read_text() == "mine" and is_encoded(tmp_path / "latents")


def test_a_checkpoint_is_not_replaced_by_latents(
    folder: Path, tmp_path: Path, cli: Cli, tiny_vae_run: Path
) -> None:
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    shutil.copytree(tiny_vae_run, tmp_path / "runs" / "vae")
    (checkpoint,) = (tmp_path / "runs" / "vae").glob("checkpoint-*")
    before = sorted(path.name for path in checkpoint.rglob("*"))
    bad = cli(f"encode --run runs/vae --data tiny.npz --out {checkpoint} --overwrite", cwd=tmp_path)
    assert (
        bad.code == 1
        and "holds something else than an encoded data set" in bad.err
        and bad.err.count("error:") == 1
    )
    assert sorted(path.name for path in checkpoint.rglob("*")) == before


def data_of(n: int, *, captions: bool = False, labels: bool = True) -> Dataset:
    generator = torch.Generator().manual_seed(n)
    splits = [
        Split(
            torch.randint(0, 256, (count, 1, 8, 8), generator=generator, dtype=torch.uint8),
            torch.arange(count) % 3 if labels else None,
            tuple(f"number {k}" for k in range(count)) if captions else None,
        )
        for count in (n, 5, 3)
    ]
    return Dataset("noise", *splits, classes=("a", "b", "c") if labels else None)


def codec_of(latent: tuple[int, ...]) -> VAECodec:
    vae = build(VAEConfig(image=(1, 8, 8), latent=latent, width=8, depth=0, hidden=16), seed=5).eval()
    assert isinstance(vae, torch.nn.Module)
    return VAECodec(vae, LatentStatistics(torch.zeros(latent[0]), torch.ones(latent[0])))  # type: ignore[arg-type]


@pytest.mark.parametrize(("captions", "labels"), [(True, False), (False, True), (False, False)])
def test_shards_give_every_image_its_own(
    captions: bool, labels: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(latent_dataset, "CHUNK", 7)
    monkeypatch.setattr(latent_dataset, "SHARD", 8 * 8 * 20)  # two chunks of 7 images with 8 numbers each
    data, codec, told = (
        data_of(45, captions=captions, labels=labels),
        codec_of((2, 2, 2)),
        list[tuple[int, int]](),
    )
    write_encoded(
        tmp_path / "z", data, codec, device=CPU, progress=lambda done, total: told.append((done, total))
    )
    assert len(list((tmp_path / "z" / "train").glob("*.safetensors"))) == 4
    assert told[-1] == (50, 50) and [done for done, _ in told] == sorted(done for done, _ in told)
    found = load_encoded(tmp_path / "z")
    assert is_encoded(tmp_path / "z") and not is_encoded(tmp_path)
    assert (
        found.shape == data.shape and found.sizes == {"train": 45, "val": 5} and found.classes == data.classes
    )
    for split, own in ((data.train, found.train), (data.val, found.val)):
        order = torch.randperm(len(split), generator=torch.Generator().manual_seed(1))
        posterior = own.posteriors[order]
        with torch.no_grad():
            expected = codec.vae.encode(split.images[order].float() / 127.5 - 1)
        torch.testing.assert_close(posterior.mean, expected.mean, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(posterior.logvar, expected.logvar, rtol=1e-5, atol=1e-5)
        assert own.captions == split.captions
        assert (own.labels is None) == (split.labels is None)
        assert own.labels is None or torch.equal(own.labels, split.labels)


def test_damage_is_named(tmp_path: Path) -> None:
    write_encoded(tmp_path / "z", data_of(10), codec_of((4,)), device=CPU)
    shard, manifest = Path("train/00000.safetensors"), "manifest.json"

    def broken(name: str, change: object) -> str:
        bad = tmp_path / name
        shutil.copytree(tmp_path / "z", bad)
        assert callable(change)
        change(bad)
        with pytest.raises(InputError) as error:
            load_encoded(bad)
        assert "\n" not in str(error.value)
        return str(error.value)

    def rewrite(bad: Path, **tensors: torch.Tensor) -> None:
        save_file(load_file(bad / shard) | tensors, bad / shard)
        reseal(bad)

    def index(bad: Path, **values: object) -> None:
        path = bad / "model_index.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | values))
        reseal(bad)

    def cut(bad: Path) -> None:
        (bad / shard).write_bytes((bad / shard).read_bytes()[:-9])
        reseal(bad)

    assert "damaged" in broken("flipped", lambda bad: (bad / shard).write_bytes(b"x" * 100))
    assert "cannot be read" in broken("gone", lambda bad: (bad / shard).unlink())
    assert "not a readable safetensors" in broken("cut", cut)
    assert "expected float16 or float32 of shape [10, 4]" in broken(
        "few", lambda bad: rewrite(bad, mean=torch.zeros(9, 4))
    )
    assert "expected float16 or float32" in broken(
        "type", lambda bad: rewrite(bad, logvar=torch.zeros(10, 4).double())
    )
    assert "expected labels from 0 to 2" in broken(
        "labels", lambda bad: rewrite(bad, labels=torch.full((10,), 7))
    )
    assert "expected int64 labels" in broken("kind", lambda bad: rewrite(bad, labels=torch.zeros(10)))
    assert "expected train as a number of images" in broken("number", lambda bad: index(bad, train=-1))
    assert "expected float16 or float32 of shape [2097000, 4]" in broken(
        "many", lambda bad: index(bad, train=10**8)
    )
    assert "has no train/00001" in broken("short", lambda bad: index(bad, train=11, shard=10))
    assert "classes as a list" in broken("names", lambda bad: index(bad, classes=3))
    assert "expected a data set that was encoded by a VAE" in broken(
        "pixels", lambda bad: index(bad, vae=[None, None], image=[1, 8, 8])
    )
    (tmp_path / "z" / manifest).write_text("{")
    with pytest.raises(InputError, match=r"manifest.json: not valid JSON"):
        is_encoded(tmp_path / "z")
    (tmp_path / "z" / "model_index.json").unlink()
    assert not is_encoded(tmp_path / "z")  # images may lie beside a manifest of something else


def test_a_failed_encoding_leaves_nothing(tmp_path: Path) -> None:
    codec = codec_of((4,))
    with torch.no_grad():
        next(iter(codec.vae.parameters())).fill_(float("nan"))
    with pytest.raises(InputError, match="not finite"):
        write_encoded(tmp_path / "z", data_of(10), codec, device=CPU)
    assert list(tmp_path.iterdir()) == []


def test_a_shard_that_is_cut_off_meanwhile_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading a mapped file beyond its end would kill the process."""
    monkeypatch.setattr(latent_dataset, "CHUNK", 5)
    monkeypatch.setattr(latent_dataset, "SHARD", 0)
    write_encoded(tmp_path / "z", data_of(10), codec_of((4,)), device=CPU)
    train, shard = load_encoded(tmp_path / "z").train, tmp_path / "z" / "train" / "00001.safetensors"
    assert len(train.posteriors[torch.arange(10)].mean) == 10
    shard.write_bytes(b"")
    assert len(train.posteriors[torch.arange(5)].mean) == 5
    with pytest.raises(Unreadable, match=r"00001.safetensors: has changed, expected \d+ bytes, found 0"):
        train.posteriors[torch.arange(4, 6)]
    shard.unlink()
    with pytest.raises(Unreadable, match="cannot be read any more"):
        train.posteriors[torch.arange(4, 6)]


def test_a_folder_is_encoded_by_one_process_and_read_whole_while_it_is_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(latent_dataset, "CHUNK", 5)
    monkeypatch.setattr(latent_dataset, "SHARD", 0)
    data, codec, refused = data_of(20), codec_of((4,)), list[str]()

    def meddle(done: int, total: int) -> None:
        if done == total:
            with pytest.raises(InputError, match="is being written by process") as error:
                write_encoded(tmp_path / "z", data, codec, device=CPU)
            refused.append(str(error.value))

    write_encoded(tmp_path / "z", data, codec, device=CPU, progress=meddle)
    assert len(refused) == 1 and [path.name for path in tmp_path.iterdir()] == ["z"]
    plain, replaced = latent_dataset.load_codec, 0

    def late(*arguments: object, **named: object) -> object:
        nonlocal replaced
        replaced += 1
        if replaced <= 2:  # after the manifest was read
            write_encoded(tmp_path / "z", data, codec_of((2,) if replaced == 1 else (4,)), device=CPU)
        return plain(*arguments, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(latent_dataset, "load_codec", late)
    found = load_encoded(tmp_path / "z")
    assert (
        replaced == 3
        and found.codec.latent_shape == (4,)
        and len(found.train.posteriors[torch.arange(20)].mean) == 20
    )
