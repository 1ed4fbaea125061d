"""Prompt-to-prompt: how words hang together, what of the attention is kept, and what must not change."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import ROOT
from torch import Tensor

import latentdiff as ld
from latentdiff.config.sampling import Sampling
from latentdiff.edit import Edit, p2p, prompt_to_prompt
from latentdiff.edit.attention import AttentionEdit, AttentionEditor, blend_mask
from latentdiff.edit.p2p import SHARES, THING_SHARES, shares_of
from latentdiff.edit.words import align, exchanges_a_thing, positions, weights
from latentdiff.errors import InputError
from latentdiff.nn import AttentionSite
from latentdiff.pipeline.text.tokenizer import PAD, Tokenizer, train_tokenizer

WORDS = "a large small dark red green orange seven three on the left blue background of yellow cat"
# a few whole words; "orangered", for one is several pieces
TOKENIZER = train_tokenizer([WORDS] * 3, vocabulary=400, length=16)
SOURCE = "a red seven on a blue background"
SETTINGS = Sampling(steps=4, guidance=2.0)


def pieces(tokenizer: Tokenizer, text: str) -> dict[str, tuple[int, ...]]:
    return dict(tokenizer.places(text))


# words


@pytest.mark.parametrize("text", ["", SOURCE, "a red red red seven", "a red seven " * 8])
def test_a_text_corresponds_to_itself(text: str) -> None:
    found = align(TOKENIZER, text, text)
    assert torch.equal(found.mapping, torch.eye(16)) and not bool(found.own.any())


def test_an_exchanged_word_takes_over_attention() -> None:
    edited = "a green seven on a blue background"
    found = align(TOKENIZER, SOURCE, edited)
    assert torch.equal(found.mapping, torch.eye(16)) and not bool(found.own.any())  # one piece for another
    two = "a dark green seven on a blue background"
    found = align(TOKENIZER, SOURCE, two)
    (red,), (dark,), (green,) = (
        pieces(TOKENIZER, SOURCE)["red"],
        pieces(TOKENIZER, two)["dark"],
        pieces(TOKENIZER, two)["green"],
    )
    assert found.mapping[red, [dark, green]].tolist() == [0.5, 0.5]
    assert not bool(found.own.any())
    later = pieces(TOKENIZER, SOURCE)["background"][0], pieces(TOKENIZER, two)["background"][0]
    assert later[1] == later[0] + 1 and found.mapping[later] == 1


def test_the_pieces_of_a_word_share_its_attention() -> None:
    edited = "a orangered seven on a blue background"
    places = pieces(TOKENIZER, edited)["orangered"]
    assert len(places) > 1
    found = align(TOKENIZER, SOURCE, edited)
    red = pieces(TOKENIZER, SOURCE)["red"][0]
    assert found.mapping[red, list(places)].tolist() == pytest.approx([1 / len(places)] * len(places))
    back = align(TOKENIZER, edited, SOURCE)
    assert back.mapping[list(places), red].tolist() == [1.0] * len(places)


def test_an_added_word_keeps_its_own_attention() -> None:
    edited = "a large red seven on a blue background"
    found = align(TOKENIZER, SOURCE, edited)
    large = pieces(TOKENIZER, edited)["large"][0]
    assert found.own.nonzero().flatten().tolist() == [large]
    assert not bool(found.mapping[:, large].any())


@pytest.mark.parametrize(
    ("source", "edited"),
    [
        (SOURCE, "a green seven on a blue background"),
        (SOURCE, "a dark green three on a yellow background"),
        ("a orangered cat", "a red seven"),
        ("a seven", "a large seven"),
    ],
)
def test_no_attention_is_lost_but_that_of_words_that_are_gone(source: str, edited: str) -> None:
    found = align(TOKENIZER, source, edited)
    assert found.mapping.sum(1).tolist() == pytest.approx([1.0] * 16)
    generator = torch.Generator().manual_seed(0)
    theirs, ours = (torch.rand(2, 16, generator=generator).softmax(-1) for _ in range(2))
    added = (ours * found.own).sum(-1)
    torch.testing.assert_close(found(theirs, ours).sum(-1), 1 + added)


def test_words_that_are_gone_lose_their_attention() -> None:
    found = align(TOKENIZER, "a large red seven", "a red seven")
    large = pieces(TOKENIZER, "a large red seven")["large"][0]
    assert found.mapping[large].sum() == 0
    assert found.mapping.sum() == pytest.approx(15)


def test_positions_and_weights_are_of_words() -> None:
    text = "a red seven left of a red three"
    found = positions(TOKENIZER, text, ["red"])
    row = TOKENIZER.encode([text])[0]
    assert len(found) == 2 and {TOKENIZER.pieces[int(row[i])] for i in found} == {"red"}
    factors = weights(TOKENIZER, text, {"red": 2.0, "three": -1.0})
    assert factors[list(found)].tolist() == [2.0, 2.0] and sorted(set(factors.tolist())) == [-1.0, 1.0, 2.0]
    with pytest.raises(InputError, match="`wanted` 'dog': expected a word of"):
        positions(TOKENIZER, text, ["dog"])


# attention


def some_attention(kind: str, groups: int, n: int = 2) -> Tensor:
    generator = torch.Generator().manual_seed(4)
    keys = 16 if kind == "cross" else 9
    return torch.rand(groups * n, 3, 9, keys, generator=generator).mul(3).softmax(-1)


@pytest.mark.parametrize("guided", [False, True])
@pytest.mark.parametrize("kind", ["self", "cross"])
def test_the_source_and_the_null_half_are_left_as_they_are(kind: str, guided: bool) -> None:
    change = AttentionEdit(align(TOKENIZER, SOURCE, "a green three"), torch.full((16,), 2.0))
    given = some_attention(kind, 4 if guided else 2)
    made = AttentionEditor([change], 2, 0.0)(given, AttentionSite(kind, 0, (3, 3)))  # type: ignore[arg-type]
    assert torch.equal(made[:2], given[:2]) and torch.equal(made[4:], given[4:])
    assert not torch.equal(made[2:4], given[2:4])


def test_attention_is_kept_for_its_share_of_the_way() -> None:
    change = AttentionEdit(align(TOKENIZER, SOURCE, SOURCE), torch.ones(16), cross=0.8, self_share=0.4)
    for kind, share in (("cross", 0.8), ("self", 0.4)):
        given, place = some_attention(kind, 2), AttentionSite(kind, 0, (3, 3))  # type: ignore[arg-type]
        before, after = (AttentionEditor([change], 2, done)(given, place) for done in (share - 0.01, share))
        torch.testing.assert_close(before[2:], given[:2], rtol=0, atol=1e-6)
        assert torch.equal(after[2:], given[2:])


def test_each_edit_has_changes_of_its_own() -> None:
    changes = [
        AttentionEdit(
            align(TOKENIZER, SOURCE, text), weights(TOKENIZER, text, {"red": 3.0} if "red" in text else {})
        )
        for text in ("a green seven on a blue background", "a large red seven")
    ]
    given, place = some_attention("cross", 3), AttentionSite("cross", 0, (3, 3))
    both = AttentionEditor(changes, 2, 0.0)(given, place)
    for k, change in enumerate(changes):
        own = torch.cat([given[:2], given[2 + 2 * k : 4 + 2 * k]])
        torch.testing.assert_close(
            AttentionEditor([change], 2, 0.0)(own, place)[2:], both[2 + 2 * k : 4 + 2 * k]
        )


def test_a_mask_holds_the_places_of_words_and_their_neighbours() -> None:
    seen = torch.zeros(2, 8, 8)
    seen[0, 2, 3], seen[0, 6, 6] = 1.0, 0.2
    seen[1, 0, 0] = 0.5
    mask = blend_mask([seen], threshold=0.3)
    assert mask.shape == (2, 1, 8, 8)
    assert (
        mask[0, 0, 1:4, 2:5].all() and mask[0].sum() == 9 and mask[1, 0, :2, :2].all() and mask[1].sum() == 4
    )
    assert torch.equal(blend_mask([seen + 1], threshold=0.3), mask), (
        "attention that is everywhere says nothing"
    )
    assert torch.equal(blend_mask([seen, torch.ones(2, 8, 8)], threshold=0.3), torch.ones(2, 1, 8, 8))


# pictures


@pytest.fixture
def pipe(text_folder: Path) -> ld.Pipeline:
    """The tiny text model, its text attention no longer next to nothing."""
    pipe = ld.load(text_folder / "runs" / "text")
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in pipe.network.named_parameters():
            if ".cross." in name or ".attention." in name:
                parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))
    return pipe


LEFT, RIGHT = "a disc on the left", "a disc on the right"


def test_the_same_text_gives_the_same_picture(pipe: ld.Pipeline) -> None:
    made = prompt_to_prompt(pipe, LEFT, [Edit(LEFT)], 3, settings=SETTINGS, seed=4)
    torch.testing.assert_close(made.edits[0], made.source, rtol=0, atol=1e-5)
    plain = pipe.sample(3, label=LEFT, steps=4, guidance=2, seed=4)
    torch.testing.assert_close(made.source, plain, rtol=0, atol=1e-4)
    assert made.maps.shape == (3, 12, 8, 8)
    torch.testing.assert_close(made.maps.sum(1), torch.ones(3, 8, 8), rtol=0, atol=1e-4)


def test_an_edit_that_keeps_nothing_is_a_new_picture(pipe: ld.Pipeline) -> None:
    edit = Edit(RIGHT, cross=0, self_share=0)
    made = prompt_to_prompt(pipe, LEFT, [edit], 3, settings=SETTINGS, seed=4)
    torch.testing.assert_close(
        made.edits[0], pipe.sample(3, label=RIGHT, steps=4, guidance=2, seed=4), rtol=0, atol=1e-4
    )


def test_what_is_kept_brings_the_edit_nearer(pipe: ld.Pipeline) -> None:
    kept, free = prompt_to_prompt(
        pipe,
        LEFT,
        [Edit(RIGHT, cross=1, self_share=1), Edit(RIGHT, cross=0, self_share=0)],
        4,
        settings=SETTINGS,
    ).edits
    source = pipe.sample(4, label=LEFT, steps=4, guidance=2)
    assert float((kept - source).norm()) < float((free - source).norm())
    assert float((kept - source).norm()) > 1e-3


def test_weights_of_words_are_heard(pipe: ld.Pipeline) -> None:
    edits = [Edit(LEFT, factors={"left": factor}) for factor in (1.0, 4.0, -4.0)]
    made = prompt_to_prompt(pipe, LEFT, edits, 2, settings=SETTINGS)
    torch.testing.assert_close(made.edits[0], made.source, rtol=0, atol=1e-5)
    more, less = (float((made.edits[k] - made.source).norm()) for k in (1, 2))
    assert more > 1e-3 and less > 1e-3 and float((made.edits[1] - made.edits[2]).norm()) > 1e-3


def test_outside_the_words_of_a_blend_nothing_changes(pipe: ld.Pipeline) -> None:
    free, bound = (
        prompt_to_prompt(
            pipe, LEFT, [Edit(RIGHT, cross=0, self_share=0, blend=b, threshold=0.9)], 4, settings=SETTINGS
        )
        for b in ((), ("left", "right"))
    )
    assert not bool((free.edits[0] == free.source).flatten(1).all(1).any())
    same = (bound.edits[0] == bound.source).all(1).flatten(1).double().mean(1)
    assert float(same.max()) > 0.1 and float(same.min()) < 1  # some pixels are the source's own, bit for bit
    with pytest.raises(InputError, match="`blend` 'dog': expected a word of"):
        prompt_to_prompt(pipe, LEFT, [Edit(RIGHT, blend=("dog",))], 1, settings=SETTINGS)


def test_images_of_ones_own_come_back_as_they_are(pipe: ld.Pipeline) -> None:
    images = pipe.sample(3, label=RIGHT, steps=4, seed=9)
    made = prompt_to_prompt(pipe, RIGHT, [Edit(LEFT), Edit(RIGHT)], images=images, settings=SETTINGS)
    torch.testing.assert_close(made.source, images, rtol=0, atol=1e-6)
    assert float((made.edits[0] - images).abs().max()) > 1e-3
    with pytest.raises(InputError, match="a sampler without noise: `sampler` ddim with `eta` 0, got ddpm"):
        prompt_to_prompt(
            pipe, RIGHT, [Edit(LEFT)], images=images, settings=Sampling(sampler="ddpm", guidance=2)
        )


def test_images_are_followed_from_the_level_that_suits_the_network(
    pipe: ld.Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = pipe.sample(3, label=RIGHT, steps=4, seed=9)
    plain = prompt_to_prompt(pipe, RIGHT, [Edit(LEFT)], images=images, settings=SETTINGS)
    monkeypatch.setattr(p2p, "first_level", lambda *of, **how: 3)
    first, other = (
        prompt_to_prompt(pipe, RIGHT, [Edit(LEFT)], images=images, settings=SETTINGS, seed=seed)
        for seed in (0, 1)
    )
    torch.testing.assert_close(first.source, images, rtol=0, atol=1e-6)
    assert float((first.edits[0] - plain.edits[0]).abs().max()) > 1e-3
    assert float((first.edits[0] - other.edits[0]).abs().max()) > 1e-4, (
        "the images were noised by another seed"
    )


def test_editing_twice_gives_the_same_bits(pipe: ld.Pipeline) -> None:
    edits = [Edit(RIGHT, factors={"right": 2.0}, blend=("left",)), Edit("a large disc on the left")]
    first, again = (prompt_to_prompt(pipe, LEFT, edits, 2, settings=SETTINGS) for _ in range(2))
    assert torch.equal(first.source, again.source)
    assert all(torch.equal(a, b) for a, b in zip(first.edits, again.edits, strict=True))


def test_edits_do_not_depend_on_their_company(pipe: ld.Pipeline) -> None:
    edits = [Edit(RIGHT), Edit("a disc", cross=0.5), Edit(LEFT, factors={"left": 3.0})]
    together = prompt_to_prompt(pipe, LEFT, edits, 3, settings=SETTINGS, seed=7)
    for k, edit in enumerate(edits):
        alone = prompt_to_prompt(pipe, LEFT, [edit], 1, settings=SETTINGS, seed=8)
        torch.testing.assert_close(alone.edits[0], together.edits[k][1:2], rtol=0, atol=1e-4)


def test_many_pictures_are_drawn_in_parts(pipe: ld.Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    images = pipe.sample(5, label=RIGHT, steps=4, seed=9)
    whole = prompt_to_prompt(pipe, LEFT, [Edit(RIGHT)], 5, settings=SETTINGS, seed=3)
    edited = prompt_to_prompt(pipe, LEFT, [Edit(RIGHT)], images=images, settings=SETTINGS)
    monkeypatch.setattr(p2p, "batch_that_fits", lambda network, device: 2 * p2p.EXPLICIT * 2)
    told: list[tuple[int, int]] = []
    parts = prompt_to_prompt(
        pipe, LEFT, [Edit(RIGHT)], 5, settings=SETTINGS, seed=3, progress=lambda *at: told.append(at)
    )
    assert told[-1] == (12, 12) and len(told) == 12  # three parts of four moves
    for one, other in zip(
        (whole.source, *whole.edits, whole.maps), (parts.source, *parts.edits, parts.maps), strict=True
    ):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-4)
    again = prompt_to_prompt(pipe, LEFT, [Edit(RIGHT)], images=images, settings=SETTINGS)
    torch.testing.assert_close(again.edits[0], edited.edits[0], rtol=0, atol=1e-4)


def test_words_that_were_cut_off_cannot_be_edited(pipe: ld.Pipeline) -> None:
    far = "a disc on the left " * 3 + "cat"
    edits = {"factors": Edit(far, factors={"cat": 2.0}), "blend": Edit(far, blend=("cat",))}
    for name, edit in edits.items():
        with pytest.raises(InputError, match=f"`{name}` 'cat': is beyond the 12 positions of the model"):
            prompt_to_prompt(pipe, LEFT, [edit], 1, settings=SETTINGS)


def test_samplers_that_draw_noise_draw_the_same_for_all(pipe: ld.Pipeline) -> None:
    noisy = Sampling(sampler="ddpm", steps=6, guidance=2)
    made = prompt_to_prompt(pipe, LEFT, [Edit(LEFT)], 2, settings=noisy)
    torch.testing.assert_close(made.edits[0], made.source, rtol=0, atol=1e-5)


def test_models_without_texts_are_refused(tiny_class_run: Path) -> None:
    with pytest.raises(InputError, match=r"expected a model conditioned on text, got another$"):
        prompt_to_prompt(ld.load(tiny_class_run), LEFT, [Edit(RIGHT)])


# the command


@pytest.fixture
def work(text_folder: Path, tiny_class_run: Path, tmp_path: Path) -> Path:
    shutil.copytree(text_folder / "runs" / "text", tmp_path / "runs" / "text")
    shutil.copytree(tiny_class_run, tmp_path / "runs" / "classes")
    shutil.copy(text_folder / "captioned.npz", tmp_path)
    return tmp_path


def test_the_command_draws_edits_and_maps(work: Path, cli: Callable) -> None:
    command = f"p2p --run runs/text --prompt '{LEFT}' --edit '{RIGHT}' --edit 'a large disc' -n 3 --steps 3"
    result = cli(
        f"{command} --word-weight disc=2 --blend disc --maps maps.png --files edited --json", cwd=work
    )
    assert result.code == 0, result.err
    answer = json.loads(result.out)
    assert [edit["text"] for edit in answer["edits"]] == [RIGHT, "a large disc"] and answer["n"] == 3
    assert answer["word_weights"] == {"disc": 2.0} and all("psnr" in str(edit) for edit in answer["edits"])
    assert (work / "p2p.png").is_file() and (work / "maps.png").is_file()
    folders = {path.name: len(list(path.glob("*.png"))) for path in (work / "edited").iterdir()}
    assert folders == {"edit=1-a-disc-on-the-right": 3, "edit=2-a-large-disc": 3}


def test_the_command_edits_images(work: Path, cli: Callable) -> None:
    result = cli(
        f"p2p --run runs/text --prompt '{LEFT}' --edit '{RIGHT}' --input captioned.npz -n 2 --steps 3",
        cwd=work,
    )
    assert result.code == 0, result.err


def test_images_are_edited_by_the_model_of_the_package_where_nothing_was_trained(
    tmp_path: Path, cli: Callable
) -> None:
    np.savez(tmp_path / "mine.npz", x=np.full((1, 32, 32, 3), 90, np.uint8))
    result = cli("p2p --prompt 'a red seven' --edit 'a blue seven' --input mine.npz --steps 2", cwd=tmp_path)
    assert result.code == 0 and "using scenes of the package" in result.err, result.err


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        ("", 2, "expected --edit TEXT or --word-weight"),
        ("--word-weight left", 2, "WORD=FACTOR"),
        ("--word-weight left=nan", 2, "WORD=FACTOR"),
        ("--word-weight left=1000", 2, "from -100 to 100"),
        ("--word-weight dog=2", 1, "expected a word of"),
        ("--edit x --threshold 0.4", 2, "--blend"),
        (f"--edit {'x' * 2001}", 2, "at most 2000 characters"),
        ("--edit 'a\x01b'", 2, "without control characters"),
        ("--edit x --blend dog", 1, "expected a word of"),
        ("--edit x --maps maps.gif", 2, "ends in .png"),
        ("--edit x --cross 2", 2, "cross"),
        ("--edit x --input captioned.npz --sampler ddpm", 1, "without noise"),
        ("--edit x --run runs/classes", 1, "is conditioned on classes, not on prompts"),
    ],
)
def test_what_cannot_be_edited_is_refused(
    options: str, code: int, message: str, work: Path, cli: Callable
) -> None:
    run = "" if "--run" in options else "--run runs/text"
    result = cli(f"p2p {run} --prompt '{LEFT}' -n 2 --steps 2 {options}", cwd=work)
    assert result.code == code and message in result.err and "Traceback" not in result.err, result.err


def test_the_padding_takes_what_there_is_no_room_for() -> None:
    long = "a large dark red seven on the left of a"
    found = align(TOKENIZER, "a seven", long)
    theirs, ours = (int((row != PAD).sum()) for row in TOKENIZER.encode(["a seven", long]))
    assert ours < 16 and found.mapping[theirs:, 15].sum() == (16 - theirs) - (15 - ours)


def test_the_snippet_of_the_documentation_runs(text_folder: Path) -> None:
    text = (ROOT / "docs" / "text.md").read_text(encoding="utf-8")
    code = (
        text.split("```python\n")[1].split("```")[0].replace("runs/NAME", str(text_folder / "runs" / "text"))
    )
    names: dict[str, object] = {}
    exec(compile(code, "docs/text.md", "exec"), names)
    assert {place.kind for place in names["seen"]} == {"self", "cross"}  # type: ignore[attr-defined]
    assert names["out"].shape == (1, 1, 8, 8)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("source", "edited", "thing"),
    [
        ("a red seven on a blue background", "a green seven on a blue background", False),
        ("a red seven on a blue background", "a red seven on a WHITE background", False),
        ("a red seven", "a red four", True),
        ("a red seven", "a green four", True),
        ("a squirrel eating a burger", "a lion eating a burger", True),
        ("a red seven", "a large red seven", False),  # a word that is added
        ("a large red seven", "a red seven", False),
        ("a red seven", "a red seven", False),
        ("a seven", "a dark orange four leaf clover", True),
    ],
)
def test_the_shares_follow_from_what_is_exchanged(source: str, edited: str, *, thing: bool) -> None:
    assert exchanges_a_thing(source, edited) is thing
    usual = THING_SHARES if thing else SHARES
    assert shares_of(source, Edit(edited)) == usual
    assert shares_of(source, Edit(edited, cross=0.5)) == (0.5, usual[1])
    assert shares_of(source, Edit(edited, self_share=0.0)) == (usual[0], 0.0)
