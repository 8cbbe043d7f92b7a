"""Emoji and what they are called in English: a short name, and words that people look for them by.

Source: the annotations of Unicode's CLDR, https://cldr.unicode.org, as Debian has them
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from dataclasses import dataclass
from typing import Final

import numpy as np

from exporters.data import emoji
from exporters.data.files import debian_file
from exporters.data.scenes import SEED

PACKAGE: Final = "unicode-cldr-core"
FILES: Final = tuple(f"usr/share/unicode/cldr/common/{part}/en.xml" for part in ("annotations", "annotationsDerived"))
LICENCE: Final = "Unicode-DFS-2016"
HELD_OUT: Final = 200  # emoji that nothing learns of, not even their names
TONES: Final = frozenset(map(chr, range(0x1F3FB, 0x1F400)))
REGIONS: Final = frozenset(map(chr, range(0x1F1E6, 0x1F200)))
TAGS: Final = frozenset(map(chr, range(0xE0000, 0xE0080)))
JOINER, PERSON, DRAWN_IN_COLOUR = "\u200d", "\U0001f9d1", "\ufe0f"
SEXES: Final = ("\u2640", "\u2642")  # behind a joiner
ADULTS: Final = ("\U0001f468", "\U0001f469")


@dataclass(frozen=True, slots=True)
class Named:
    """An emoji by its characters, its short name such as "red apple", and its keywords, the name's own words too."""

    characters: str
    name: str
    keywords: tuple[str, ...]


def named_emoji() -> tuple[Named, ...]:
    """Those that the font has a picture of, without flags and without tones of skin. PackageMissing."""
    names: dict[str, str] = {}
    keywords: dict[str, tuple[str, ...]] = {}
    for file in FILES:
        for note in ET.parse(debian_file(PACKAGE, file)).getroot().iter("annotation"):  # noqa: S314  (Debian's own file)
            text = note.text or ""
            if note.get("type") == "tts":
                names[note.attrib["cp"]] = text.strip()
            else:
                keywords[note.attrib["cp"]] = tuple(word.strip() for word in text.split("|"))
    found = (Named(one, name, keywords.get(one, ())) for one, name in sorted(names.items()) if _is_wanted(one))
    return tuple(one for one in found if _is_drawn(one.characters))


def split_names(named: tuple[Named, ...], held_out: int) -> tuple[tuple[Named, ...], tuple[Named, ...]]:
    """Those to learn from, and so many that are held out, drawn at random."""
    order = np.random.default_rng(SEED).permutation(len(named))
    return tuple(named[i] for i in sorted(order[held_out:])), tuple(named[i] for i in sorted(order[:held_out]))


def kin_of(characters: str) -> str:
    """What the emoji's variants for men, for women and for any person have in common."""
    kin = characters.replace(DRAWN_IN_COLOUR, "")
    for sex in SEXES:
        kin = kin.replace(JOINER + sex, "")
    for adult in ADULTS:
        kin = kin.replace(adult, PERSON)
    return kin


def phrases_to_learn() -> tuple[str, ...]:
    """Names and keywords, each by itself, without the names of those that are held out."""
    named = named_emoji()
    learned, held_out = split_names(named, HELD_OUT)
    words = {word for one in named for word in one.keywords} - {one.name for one in held_out}
    return tuple(sorted(words | {one.name for one in learned}))


def _is_wanted(characters: str) -> bool:
    return not (set(characters) & (TONES | REGIONS | TAGS)) and characters > "\u2000"


def _is_drawn(characters: str) -> bool:
    try:
        emoji.glyph(characters)
    except ValueError:
        return False
    return True
