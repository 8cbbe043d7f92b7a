"""A hundred things, how people ask for them, and how they look: what pictures are generated of.

They are emoji that the published `clip` has learned of, since it judges what is drawn, and that a person would know at
32 pixels. Names are those of Unicode's CLDR.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, Final

import numpy as np

from exporters.data import emoji
from exporters.data.emoji_names import Named, named_emoji
from exporters.data.sentences import with_article
from exporters.data.words import word_tokenizer
from serving.tensors import Array

if TYPE_CHECKING:
    from tokenizers import Tokenizer

VOCABULARY: Final = (
    "red apple", "pear", "tangerine", "lemon", "banana", "watermelon", "strawberry", "cherries", "tomato", "avocado",
    "broccoli", "carrot", "ear of corn", "hot pepper", "mushroom", "pretzel", "cheese wedge", "french fries", "pizza",
    "hot dog", "taco", "birthday cake", "cupcake", "lollipop", "cactus", "rose", "tulip", "dog face", "cat face", "fox",
    "panda", "koala", "pig face", "frog", "penguin", "baby chick", "flamingo", "parrot", "elephant", "giraffe", "zebra",
    "turtle", "dolphin", "tropical fish", "butterfly", "honeybee", "lady beetle", "automobile", "taxi", "fire engine",
    "tractor", "locomotive", "rocket", "sailboat", "house", "castle", "tent", "sun", "crescent moon", "star", "rainbow",
    "snowman", "fire", "wrapped gift", "crown", "top hat", "soccer ball", "violin", "trophy", "key", "bell",
    "light bulb", "hourglass done", "alarm clock", "camera", "books", "hammer", "red heart", "skull", "pile of poo",
    "grinning face", "crying face", "smiling face with sunglasses", "smiling face with heart-eyes", "clown face",
    "Santa Claus", "gem stone", "bomb", "magnet", "anchor", "glasses", "high-heeled shoe", "volcano", "droplet",
    "ringed planet", "flying saucer", "shark", "T-Rex", "horse", "camel",
)  # fmt: skip
PAD, NULL, UNKNOWN = range(3)
SPECIAL: Final = ("[PAD]", "[NULL]", "[UNK]")
ARTICLES: Final = ("a", "an", "the")
LONGEST: Final = 8  # tokens
PROMPTS: Final = 6  # ways to ask for each thing
LONGER: Final = 0.86  # of the side, that the longer side of a thing takes
ASIDE: Final = ((0, 0), (0, -1), (0, 1), (-1, 0), (-1, -1), (-1, 1), (1, 0), (1, -1), (1, 1))
STEP: Final = 16  # of a side, by which a thing then lies to the right and below: whole patches of what networks see
VIEWS: Final = 2 * len(ASIDE)


@cache
def things() -> tuple[Named, ...]:
    """The vocabulary in its order. PackageMissing."""
    named = {one.name: one for one in named_emoji()}
    return tuple(named[name] for name in VOCABULARY)


def prompts_of(named: Sequence[Named]) -> tuple[tuple[str, ...], ...]:
    """PROMPTS texts for each thing, again from the front where there are fewer: its name, the name with its article and
    with a word that is not known, and those of its keywords that mean no other one of them.
    """
    meant = Counter(word.lower() for one in named for word in {one.name, *one.keywords})
    found = []
    for one in named:
        own = [word for word in one.keywords if meant[word.lower()] == 1]
        said = [one.name, with_article(one.name), f"the {SPECIAL[UNKNOWN]} {one.name}", *own]
        found.append(tuple(said[i % len(said)] for i in range(PROMPTS)))
    return tuple(found)


@cache
def make_tokenizer() -> Tokenizer:
    """Of all words of all prompts. PackageMissing."""
    plain = word_tokenizer(SPECIAL, SPECIAL, SPECIAL[UNKNOWN])
    said = [text for texts in prompts_of(things()) for text in (*texts, *ARTICLES)]
    words = {word for text in said for word, _ in _split(plain, text)}
    return word_tokenizer((*SPECIAL, *sorted(words)), SPECIAL, SPECIAL[UNKNOWN])


def tokens_of(texts: Sequence[str]) -> Array:
    """int64 [N, LONGEST], what is longer cut."""
    rows = [make_tokenizer().encode(text).ids[:LONGEST] for text in texts]
    return np.array([[*ids, *[PAD] * (LONGEST - len(ids))] for ids in rows], np.int64)


def null_tokens(count: int) -> Array:
    """No prompt, so many times: int64 [count, LONGEST]."""
    return np.repeat(tokens_of([SPECIAL[NULL]]), count, axis=0)


def pictures(named: Sequence[Named], side: int, *, views: Sequence[int]) -> Array:
    """Each thing in each view on white, view by view: uint8 [len(views) * len(named), side, side, 3].

    View 0 is in the middle and as the font has it, view 1 turned around, left for right; so are each further two, which
    lie a sixteenth of the side away from the middle.
    """
    return np.stack([_picture(one.characters, side, view) for view in views for one in named])


def _picture(characters: str, side: int, view: int) -> Array:
    import PIL.Image
    import PIL.ImageOps

    drawing = emoji.glyph(characters)
    if view % 2:
        drawing = PIL.ImageOps.mirror(drawing)
    width, height = (max(1, round(length * LONGER * side / max(drawing.size))) for length in drawing.size)
    small = drawing.resize((width, height), PIL.Image.Resampling.LANCZOS)
    right, down = (places * side // STEP for places in ASIDE[view // 2])
    ground = PIL.Image.new("RGB", (side, side), "white")
    ground.paste(small, ((side - width) // 2 + right, (side - height) // 2 + down), small)
    return np.asarray(ground)


def _split(tokenizer: Tokenizer, text: str) -> list[tuple[str, tuple[int, int]]]:
    lowered = tokenizer.normalizer.normalize_str(text)
    found: list[tuple[str, tuple[int, int]]] = tokenizer.pre_tokenizer.pre_tokenize_str(lowered)
    return found
