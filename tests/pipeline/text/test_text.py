"""Text-conditional models, from captions to pictures: training, checkpoints, every command that takes a
--prompt.
"""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import click
import numpy as np
import pytest
import torch
from torch import Tensor

import latentdiff as ld
from latentdiff.apps.cli.shared.prompts import check_texts
from latentdiff.config.sampling import Sampling
from latentdiff.config.training import TrainDenoiser
from latentdiff.data import Dataset, Split
from latentdiff.errors import InputError
from latentdiff.evaluate.sampling import draw_samples
from latentdiff.nn import build
from latentdiff.nn.networks import UNetConfig
from latentdiff.pipeline.codec import IdentityCodec
from latentdiff.pipeline.text.tokenizer import END, PAD, START
from latentdiff.train.build import denoiser_config_of, tokenizer_of
from latentdiff.train.denoiser import DenoiserTask

DRAW = "sample --run runs/text --steps 3 -n 4"
OPTIONS = "--batch 16 --warmup 0 --ema 0 --bf16 off --log-every 1"
TRAIN = (
    "train-denoiser --pixel --text --data captioned.npz --width 16 --depth 1 --T 20 --text-length 12"
    f" {OPTIONS}"
)
PLACES = ("left", "middle", "right")


@pytest.fixture
def work(text_folder: Path, tiny_class_run: Path, tiny_denoiser_run: Path, tmp_path: Path) -> Path:
    """Copies of the text run, its data, and of two runs with classes."""
    shutil.copytree(text_folder / "runs" / "text", tmp_path / "runs" / "text")
    for run in (tiny_class_run, tiny_denoiser_run):
        shutil.copytree(run, tmp_path / "runs" / run.name)
    shutil.copy(text_folder / "captioned.npz", tmp_path)
    return tmp_path


@pytest.fixture
def pipe(text_folder: Path) -> ld.Pipeline:
    return ld.load(text_folder / "runs" / "text")


# training


def task_of(captions: tuple[str, ...], **options: object) -> DenoiserTask:
    images = torch.arange(len(captions) * 64).reshape(-1, 1, 8, 8).remainder(256).to(torch.uint8)
    split = Split(images, None, captions)
    data = Dataset("captioned", split, split, split)
    values = {
        "pixel": True,
        "text": True,
        "text_length": 8,
        "width": 16,
        "depth": 1,
        "T": 20,
        "bf16": "off",
    } | options
    settings = TrainDenoiser.model_validate(values)
    codec, tokenizer = IdentityCodec((1, 8, 8)), tokenizer_of(settings, data)
    network = build(denoiser_config_of(settings, data, codec, tokenizer))
    return DenoiserTask(settings, data, codec, network, torch.device("cpu"), tokenizer)


@pytest.mark.parametrize(
    ("captions", "length"),
    [
        (("a disc",) * 12, 8),  # the least
        ((*["a disc"] * 11, "one two three four five six seven eight nine"), 11),  # what the longest needs
        ((*["a disc"] * 11, " ".join(["disc"] * 50)), 32),  # the most
    ],
)
def test_a_text_is_as_long_as_the_longest_caption_needs(captions: tuple[str, ...], length: int) -> None:
    captions = captions * 3  # words that come more often than once become one piece
    task = task_of(captions, text_length=None)
    assert task.tokenizer is not None and task.tokenizer.length == length
    assert task_of(captions, text_length=9).tokenizer.length == 9  # type: ignore[union-attr]
    config = task.network.config
    assert isinstance(config, UNetConfig) and config.text is not None and config.text.length == length


@pytest.mark.parametrize("rate", [0.0, 0.3, 1.0])
def test_a_network_is_told_the_caption_of_each_image_or_nothing(
    rate: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    captions = tuple(f"a disc on the {place}" for place in PLACES) * 4
    task = task_of(captions, label_dropout=rate)
    told: list[Tensor] = []
    forward = task.network.forward
    monkeypatch.setattr(
        task.network, "forward", lambda x, t, labels: told.append(labels) or forward(x, t, labels)
    )
    positions = torch.arange(600)
    indices = positions * 5 % 12
    task.loss(0, positions, indices)
    assert task.tokenizer is not None
    own = task.tokenizer.encode([captions[i] for i in indices])
    dropped = (told[0] != own).any(1)
    assert told[0][dropped].tolist() == [[START, END] + [PAD] * 6] * int(dropped.sum())
    assert float(dropped.float().mean()) == pytest.approx(rate, abs=0.08)
    told.clear()
    task.validate(task.network)
    assert torch.equal(told[0], task.tokenizer.encode(captions))  # validation leaves none out


def test_captions_are_needed(work: Path, cli: Callable, tiny_folder: Path) -> None:
    with pytest.raises(InputError, match="`text` needs captions, found some for 1 of 12 training images"):
        task_of(("a disc", *[""] * 11))
    result = cli(f"train-denoiser --pixel --text --data {tiny_folder / 'tiny.npz'} --steps 1", cwd=work)
    assert result.code == 1 and "--text needs captions" in result.err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--vocabulary 100", "need --text"),
        ("--text-length 9", "need --text"),
        ("--text --network cnn", "network unet or mlp or dit, got cnn"),
        ("--text --text-length 3", "text-length"),
    ],
)
def test_options_that_make_no_sense_are_refused(
    options: str, message: str, work: Path, cli: Callable
) -> None:
    result = cli(f"train-denoiser --pixel --data captioned.npz --steps 1 {options}", cwd=work)
    assert result.code == 2 and message in result.err


def test_a_vector_latent_is_conditioned_on_text_by_an_mlp(
    work: Path, cli: Callable, tiny_vae_run: Path
) -> None:
    result = cli(
        f"train-denoiser --text --data captioned.npz --vae {tiny_vae_run} --steps 30 --lr 1e-2 --name vector"
        f" {OPTIONS}",
        cwd=work,
    )
    assert result.code == 0, result.err
    drawn = cli(
        'sample --run runs/vector --prompt "a disc" -n 2 --steps 2 --guidance 2 --out a.npz', cwd=work
    )
    assert drawn.code == 0, drawn.err
    other = cli(
        'sample --run runs/vector --prompt "a square" -n 2 --steps 2 --guidance 2 --out b.npz', cwd=work
    )
    assert other.code == 0, other.err
    with np.load(work / "a.npz") as a, np.load(work / "b.npz") as b:
        assert not np.array_equal(a["images"], b["images"])
    refused = cli('p2p --run runs/vector --prompt "a disc" --edit "a square" --steps 2', cwd=work)
    assert (
        refused.code == 1
        and "without attention to its words" in refused.err
        and refused.err.count("error") == 1
    )


def test_other_captions_are_other_data(work: Path, cli: Callable) -> None:
    with np.load(work / "captioned.npz") as arrays:
        values = dict(arrays)
    values["caption_train"] = values["caption_train"][::-1].copy()
    np.savez(work / "captioned.npz", **values)
    result = cli("train-denoiser --resume runs/text --steps 9", cwd=work)
    assert result.code == 1 and "was trained on other images than the data given now" in result.err


def test_resuming_gives_the_bits_of_one_go(work: Path, cli: Callable) -> None:
    assert cli(f"{TRAIN} --steps 5 --name whole --decay constant", cwd=work).code == 0
    assert cli(f"{TRAIN} --steps 3 --name half --decay constant", cwd=work).code == 0
    assert cli("train-denoiser --resume runs/half --steps 5", cwd=work).code == 0
    whole, half = (ld.load(work / "runs" / name) for name in ("whole", "half"))
    assert whole.tokenizer == half.tokenizer
    ours, theirs = whole.network.state_dict(), half.network.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_fine_tuning_keeps_the_tokenizer(work: Path, cli: Callable) -> None:
    with np.load(work / "captioned.npz") as arrays:
        values = dict(arrays)
    values["caption_train"] = np.array([f"some other words {k}" for k in range(48)])
    np.savez(work / "captioned.npz", **values)
    result = cli(f"{TRAIN} --steps 1 --init-from runs/text --name tuned", cwd=work)
    assert result.code == 0, result.err
    assert ld.load(work / "runs" / "tuned").tokenizer == ld.load(work / "runs" / "text").tokenizer


# checkpoints


def test_saving_what_was_loaded_gives_the_same_bytes(pipe: ld.Pipeline, tmp_path: Path) -> None:
    for name in ("a", "b"):
        pipe.save(tmp_path / name)
        pipe = ld.load(tmp_path / name)
    files = sorted(p.relative_to(tmp_path / "a") for p in (tmp_path / "a").rglob("*") if p.is_file())
    assert Path("tokenizer/tokenizer.json") in files
    assert all((tmp_path / "a" / f).read_bytes() == (tmp_path / "b" / f).read_bytes() for f in files)


def test_a_tokenizer_that_does_not_fit_is_refused(work: Path, reseal_run: Callable) -> None:
    folder = next((work / "runs" / "text").glob("checkpoint-*"))
    path = folder / "tokenizer" / "tokenizer.json"
    values = json.loads(path.read_text())
    path.write_text(json.dumps(values | {"pieces": [*values["pieces"], "zebra"]}))
    with pytest.raises(InputError, match=r"sha256|SHA-256|manifest|damaged"):
        ld.load(folder)
    reseal_run(folder)
    with pytest.raises(InputError, match="pieces and a length of 12, as the denoiser has"):
        ld.load(folder)


# drawing


def test_an_image_depends_on_its_seed_and_its_text(pipe: ld.Pipeline) -> None:
    texts = ["a disc on the left", "a disc on the right", "a disc on the left", "something else"]
    together = pipe.sample(4, label=texts, steps=4, seed=5, guidance=2)
    for k, text in enumerate(texts):
        alone = pipe.sample(1, label=text, steps=4, seed=5 + k, guidance=2)
        torch.testing.assert_close(together[k : k + 1], alone, rtol=0, atol=1e-4)
    parts = pipe.sample(4, label=texts, steps=4, seed=5, guidance=2, batch=3)
    torch.testing.assert_close(parts, together, rtol=0, atol=1e-4)
    other = pipe.sample(4, label=texts[::-1], steps=4, seed=5, guidance=2)
    assert float((other - together).abs().amax((1, 2, 3)).min()) > 1e-4


def test_the_empty_text_is_no_text(pipe: ld.Pipeline) -> None:
    torch.testing.assert_close(pipe.sample(2, label="", steps=3), pipe.sample(2, steps=3), rtol=0, atol=1e-5)


def test_a_negative_prompt_is_led_away_from(pipe: ld.Pipeline) -> None:
    def drawn(**options: object) -> Tensor:
        return pipe.sample(2, label="a disc on the left", steps=3, guidance=3, **options)  # type: ignore[arg-type]

    plain = drawn()
    torch.testing.assert_close(drawn(negative_prompt=""), plain)
    assert float((drawn(negative_prompt="a disc on the right") - plain).abs().max()) > 1e-4
    with pytest.raises(InputError, match="`negative_prompt` has no effect at guidance 1"):
        pipe.sample(2, label="a disc", negative_prompt="a disc on the right")


@pytest.mark.slow
def test_compiling_draws_the_same(pipe: ld.Pipeline) -> None:
    plain = pipe.sample(2, label="a disc on the left", steps=3, guidance=2)
    compiled = pipe.sample(2, label="a disc on the left", steps=3, guidance=2, compile=True)
    torch.testing.assert_close(compiled, plain, rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    "text",
    [
        "\u8d64\u3000\u4e03",
        "rouge\u00a0!",
        "\u0645\u06cc\u200c\u062e",
        "\U0001f468\u200d\U0001f469",
        "a\nb\tc",
        "\u200fa",
    ],
)
def test_a_prompt_may_hold_what_a_caption_may(text: str) -> None:
    check_texts([text])


@pytest.mark.parametrize("text", ["a\x00", "a\x1b[1m", "a\x7f", "a\x9b", "a\ud800", "a\udce9"])
def test_a_prompt_without_control_characters(text: str) -> None:
    with pytest.raises(click.UsageError, match="expected a text without control characters"):
        check_texts([text])


def test_prompts_are_taken_in_turn(work: Path, cli: Callable) -> None:
    (work / "prompts.txt").write_text("a disc on the right\n\n  a disc on the middle \n", encoding="utf-8")
    command = f"{DRAW} --prompt 'a disc on the left' --prompt-file prompts.txt --json --out drawn.npz"
    result = cli(command, cwd=work)
    assert result.code == 0, result.err
    wanted = [f"a disc on the {place}" for place in ("left", "right", "middle", "left")]
    assert json.loads(result.out)["labels"] == wanted
    with np.load(work / "drawn.npz", allow_pickle=False) as arrays:
        assert arrays["captions"].tolist() == wanted and "labels" not in arrays
        together = arrays["images"].astype(int)
    result = cli(f"{DRAW} -n 1 --seed 1 --prompt 'a disc on the right' --out one.npz", cwd=work)
    with np.load(work / "one.npz", allow_pickle=False) as arrays:
        assert int(np.abs(arrays["images"].astype(int) - together[1:2]).max()) <= 1


@pytest.mark.parametrize(
    ("command", "code", "message"),
    [
        (f"{DRAW} --label 3", 1, "is conditioned on prompts, not on classes; use --prompt"),
        (f"{DRAW} --label 3 --prompt x", 2, "give one"),
        (f"{DRAW} --guidance 3", 2, "needs a --prompt"),
        (f"{DRAW} --class-balance data", 1, "is conditioned on prompts"),
        (f"{DRAW} --prompt-file none.txt", 2, "cannot be read"),
        (f"{DRAW} --prompt-file empty.txt", 2, "found none"),
        (f"{DRAW} --prompt-file captioned.npz", 2, "expected UTF-8"),
        (f"{DRAW} --prompt {'x' * 2001}", 2, "at most 2000 characters, found 2001"),
        (f"{DRAW} --prompt a --prompt b --interpolate 3", 2, "one text along the way"),
        (f"{DRAW} --prompt a --negative-prompt b", 2, "no effect at guidance 1"),
        (
            "sample --run runs/classes -n 2 --steps 2 --prompt x",
            1,
            "is conditioned on classes, not on prompts; use --label",
        ),
        (
            "sample --run runs/classes -n 2 --steps 2 --guidance 2 --negative-prompt x",
            1,
            "leave --negative-prompt out, take --run scenes",
        ),
        ("anagram --run runs/text --label 1 --label 2", 1, "use --prompt"),
        ("anagram --run runs/text", 2, "got none"),
        ("anagram --run runs/text --prompt a --label 2", 2, "got both"),
        ("anagram --run runs/text --prompt a", 2, "as many --prompt as --view, got 1 and 2"),
        ("anagram --run runs/classes --prompt a --prompt b", 1, "not on prompts; use --label"),
        ("hybrid --run runs/text --prompt a", 2, "twice or more"),
        ("edit --run runs/text --input captioned.npz --label 2", 1, "use --prompt"),
        ("edit --run runs/text --input captioned.npz --guidance 2", 2, "needs a --prompt"),
    ],
)
def test_what_cannot_be_asked_is_refused(
    command: str, code: int, message: str, work: Path, cli: Callable
) -> None:
    (work / "empty.txt").write_text("\n \n")
    result = cli(command, cwd=work)
    assert result.code == code and message in result.err and "Traceback" not in result.err, result.err


def test_a_long_prompt_is_cut_and_said_so(work: Path, cli: Callable) -> None:
    result = cli(f"{DRAW} --prompt '{'a disc ' * 20}' --out drawn.png", cwd=work)
    assert result.code == 0 and "truncated to the model's 10 word pieces" in result.err


@pytest.mark.parametrize(
    "command",
    [
        "edit --input captioned.npz --strength 0.5 -n 2 --prompt 'a disc on the left' --steps 4 --guidance 2",
        "inpaint --input captioned.npz --mask box -n 2 --prompt 'a disc on the left' --steps 4 --samples 1",
        "restore --input captioned.npz --operator mask -n 2 --prompt 'a disc on the left' --steps 4",
        (
            "anagram --prompt 'a disc on the left' --prompt 'a disc on the right' --view identity --view"
            " mirror -n 2 --steps 4"
        ),
        "hybrid --prompt 'a disc on the left' --prompt 'a disc on the right' -n 2 --steps 4",
        "invert --input captioned.npz -n 2 --prompt 'a disc on the left' --steps 4",
    ],
)
def test_every_edit_takes_a_prompt(command: str, work: Path, cli: Callable) -> None:
    result = cli(f"{command} --run runs/text --json --out figure.png", cwd=work)
    assert result.code == 0, result.err
    assert "a disc on the left" in json.loads(result.out)["labels"] and (work / "figure.png").is_file()
    nothing = cli(f"{command.replace('left', 'far side')} --run runs/text --json --out other.png", cwd=work)
    assert nothing.code == 0
    assert (work / "figure.png").read_bytes() != (work / "other.png").read_bytes()


@pytest.mark.slow
def test_evaluation_asks_for_the_captions_of_the_split(
    work: Path, cli: Callable, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LATENTDIFF_CACHE", str(tmp_path_factory.mktemp("cache")))
    shared = "--features mnist --resamples 0 --test-images 6 -n 12 --neighbors 0 --steps 3 --json"
    found = {}
    for guidance in (0, 1, 3):
        result = cli(f"evaluate --run runs/text {shared} --guidance {guidance} --out out{guidance}", cwd=work)
        assert result.code == 0, result.err
        found[guidance] = json.loads(result.out)
    assert found[1]["parts"] == ["samples", "denoiser", "reconstruction"]
    assert len({each["samples"]["fd"]["value"] for each in found.values()}) == 3
    pipe = ld.load(work / "runs" / "text")
    texts = [f"a disc on the {PLACES[k % 3]}" for k in range(12)]
    drawn = draw_samples(pipe, Sampling(steps=3), 12, texts=texts)
    torch.testing.assert_close(
        drawn.float() / 127.5 - 1, pipe.sample(12, label=texts, steps=3), rtol=0, atol=0.01
    )
    with np.load(work / "captioned.npz") as arrays:
        np.savez(work / "silent.npz", x_train=arrays["x_train"], x_test=arrays["x_test"])
    result = cli(f"evaluate --run runs/text --data silent.npz {shared} --what samples --out out", cwd=work)
    assert result.code == 1 and "has no captions to draw images for" in result.err
    result = cli(
        f"evaluate --run runs/text --data silent.npz {shared} --what samples --guidance 0 --out out", cwd=work
    )
    assert result.code == 0, result.err
