"""Word pieces: learned from captions, whole or split, and the same as another library splits with the same
vocabulary.
"""

import json

import pytest
import torch

from latentdiff.errors import InputError
from latentdiff.pipeline.text.tokenizer import (
    END,
    PAD,
    SPECIAL,
    START,
    UNKNOWN,
    Tokenizer,
    train_tokenizer,
    words,
)

TEXTS = [
    "a large red seven on a blue background",
    "a small orange three in the top left corner, on a yellow background",
    "grinning face with smiling eyes",
    "Flag DE; the café's crème brûlée (twice!)",
    "größer, kleiner, 42 times 7",
]
TOKENIZER = train_tokenizer(TEXTS * 3, vocabulary=120, length=24)


def test_words_are_lower_case_and_marks_stand_alone() -> None:
    assert words("A Red 7, left-of  a CAFÉ!") == ["a", "red", "7", ",", "left", "-", "of", "a", "café", "!"]
    assert words("ﬁne") == ["fine"] and words("  ") == []
    assert words("赤い7、left") == ["赤", "い", "7", "、", "left"] and words("👍🏽 ok") == ["👍", "🏽", "ok"]


def test_the_special_pieces_come_first_and_none_comes_twice() -> None:
    assert TOKENIZER.pieces[:4] == SPECIAL and len(set(TOKENIZER.pieces)) == len(TOKENIZER.pieces) == 120
    with pytest.raises(InputError, match="distinct pieces that begin with"):
        Tokenizer(("[pad]", "a"), 8)
    with pytest.raises(InputError, match="a length of 3 to 1024"):
        Tokenizer(SPECIAL, 2)


def test_frequent_words_become_one_piece_and_other_words_their_parts() -> None:
    tokenizer = train_tokenizer([*TEXTS * 5, "a rare background"], vocabulary=400)
    assert len(tokenizer.split("background")) == 1 and len(tokenizer.split("large")) == 1
    parts = [tokenizer.pieces[number] for number in tokenizer.split("backgrounds")]
    assert parts[0] == "background" and "".join(part.removeprefix("##") for part in parts) == "backgrounds"


def test_unknown_letters_make_an_unknown_word() -> None:
    assert TOKENIZER.split("Ж") == [UNKNOWN] and TOKENIZER.split("redЖ") == [UNKNOWN]
    assert TOKENIZER.split("x" * 65) == [UNKNOWN]


def test_rows_have_a_start_an_end_and_padding() -> None:
    rows = TOKENIZER.encode(["", "a red seven", TEXTS[1] * 3])
    assert rows.dtype == torch.int64 and rows.shape == (3, 24)
    assert rows[0].tolist() == [START, END] + [PAD] * 22
    inner = [number for word in words("a red seven") for number in TOKENIZER.split(word)]
    assert rows[1].tolist() == [START, *inner, END] + [PAD] * (22 - len(inner))
    assert rows[2, 0] == START and rows[2, -1] == END and PAD not in rows[2].tolist()
    assert TOKENIZER.truncates(TEXTS[1] * 3) and not TOKENIZER.truncates("a red seven")


def test_places_say_which_pieces_are_of_which_word() -> None:
    row = TOKENIZER.encode(["backgrounds, a red seven"])[0]
    found = TOKENIZER.places("Backgrounds, a red seven")
    assert [word for word, _ in found] == ["backgrounds", ",", "a", "red", "seven"]
    for word, places in found:
        assert [int(row[i]) for i in places] == TOKENIZER.split(word)
    beyond = TOKENIZER.places(" ".join(["seven"] * 40))
    assert beyond[0][1] and not beyond[-1][1] and max(max(p) for _, p in beyond if p) == 22


def test_json_and_back() -> None:
    again = Tokenizer.parse(json.loads(json.dumps(TOKENIZER.dump())), "x.json")
    assert again == TOKENIZER


@pytest.mark.parametrize(
    "values",
    [
        None,
        [],
        {},
        {"length": 8},
        {"length": "8", "pieces": list(SPECIAL)},
        {"length": True, "pieces": list(SPECIAL)},
        {"length": 8, "pieces": [*SPECIAL, 3]},
        {"length": 8, "pieces": ["a"]},
        {"length": 8, "pieces": [*SPECIAL, "a", "a"]},
        {"length": 10**9, "pieces": list(SPECIAL)},
    ],
)
def test_other_files_are_refused_in_one_line(values: object) -> None:
    with pytest.raises(InputError, match=r"^x\.json: ") as error:
        Tokenizer.parse(values, "x.json")
    assert "\n" not in str(error.value)


def test_training_is_deterministic_and_respects_the_vocabulary() -> None:
    assert train_tokenizer(TEXTS * 3, vocabulary=120, length=24) == TOKENIZER
    assert len(train_tokenizer(TEXTS, vocabulary=20)) == 20
    assert len(train_tokenizer(["a"], vocabulary=100)) == 5
    assert train_tokenizer([], vocabulary=100).encode(["a"]).tolist()[0][:3] == [START, UNKNOWN, END]


def naive(texts: list[str], vocabulary: int) -> list[str]:
    """The merges of train_tokenizer with everything counted anew each time."""
    counts: dict[str, int] = {}
    for text in texts:
        for word in words(text):
            counts[word] = counts.get(word, 0) + 1
    spelled = {
        word: [letter if i == 0 else f"##{letter}" for i, letter in enumerate(word)] for word in counts
    }
    letters: dict[str, int] = {}
    for word, parts in spelled.items():
        for part in parts:
            letters[part] = letters.get(part, 0) + counts[word]
    pieces = sorted(letters, key=lambda part: (-letters[part], part))
    while len(pieces) < vocabulary - 4:
        pairs: dict[tuple[str, str], int] = {}
        for word, parts in spelled.items():
            for i in range(len(parts) - 1):
                pairs[parts[i], parts[i + 1]] = pairs.get((parts[i], parts[i + 1]), 0) + counts[word]
        pairs = {pair: count for pair, count in pairs.items() if count >= 2}
        if not pairs:
            break
        first, second = min(pairs, key=lambda pair: (-pairs[pair], pair))
        merged = first + second[2:]
        pieces += [] if merged in pieces else [merged]
        for parts in spelled.values():
            i = 0
            while i < len(parts) - 1:
                if (parts[i], parts[i + 1]) == (first, second):
                    parts[i : i + 2] = [merged]
                i += 1
    return pieces


@pytest.mark.parametrize("vocabulary", [60, 100, 400])
def test_counting_only_what_changed_gives_what_counting_everything_gives(vocabulary: int) -> None:
    texts = [
        *TEXTS * 2,
        "banana bandana ananas aaaa aaaaa aa",
        "abababab bababa",
        "aaaaaaa abaabaab xaxaxax",
    ] * 2
    assert list(train_tokenizer(texts, vocabulary=vocabulary).pieces[4:]) == naive(texts, vocabulary)


def test_splits_as_the_library_tokenizers_does() -> None:
    models = pytest.importorskip("tokenizers.models")
    vocabulary = {piece: number for number, piece in enumerate(TOKENIZER.pieces)}
    other = models.WordPiece(vocabulary, unk_token="[unk]", max_input_chars_per_word=64)
    tried = {word for text in TEXTS for word in words(text)}
    tried |= {
        "backgrounds",
        "reds",
        "sevens",
        "orangered",
        "Ж",
        "grinningface",
        "x" * 65,
        "largest",
        "ee",
        "onion",
    }
    assert len(tried) > 30
    for word in sorted(tried):
        assert [token.id for token in other.tokenize(word)] == TOKENIZER.split(word), word
