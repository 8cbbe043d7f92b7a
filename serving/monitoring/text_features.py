"""What a text looks like, in a few numbers, by its characters and by what a tokenizer makes of it."""

from __future__ import annotations

from bisect import bisect
from collections import Counter
from typing import Final

READ: Final = 2000  # characters, the first; a language shows in far fewer

# First character of each block of Unicode that holds a script, and the script. Source: Unicode's Blocks.txt
_BLOCKS: Final = (
    (0x0000, "latin"), (0x0370, "greek"), (0x0400, "cyrillic"), (0x0530, "other"), (0x0590, "hebrew"),
    (0x0600, "arabic"), (0x0780, "other"), (0x0900, "devanagari"), (0x0980, "other"), (0x0E00, "thai"),
    (0x0E80, "other"), (0x1100, "hangul"), (0x1200, "other"), (0x1E00, "latin"), (0x1F00, "greek"), (0x2000, "other"),
    (0x3040, "kana"), (0x3100, "other"), (0x3400, "han"), (0xA000, "other"), (0xAC00, "hangul"), (0xD7B0, "other"),
    (0xF900, "han"), (0xFB00, "other"), (0x20000, "han"), (0x32000, "other"),
)  # fmt: skip
_STARTS: Final = [start for start, _ in _BLOCKS]


def text_features(text: str) -> dict[str, float | str]:
    """Its length in characters; of the first of them the shares of letters, digits, what is neither nor a space, and
    of what is not ASCII; of its letters the share of capitals; and the script that most of them are of.
    """
    found: dict[str, float | str] = {"characters": float(len(text))}
    read = text[:READ]
    if not read:
        return found
    letters = [one for one in read if one.isalpha()]
    digits, spaces = sum(map(str.isdigit, read)), sum(map(str.isspace, read))
    found |= {
        "letters": len(letters) / len(read),
        "digits": digits / len(read),
        "signs": (len(read) - len(letters) - digits - spaces) / len(read),
        "non_ascii": 0.0 if read.isascii() else sum(one > "\x7f" for one in read) / len(read),
    }
    if letters:
        found["capitals"] = sum(map(str.isupper, letters)) / len(letters)
        found["script"] = "latin" if read.isascii() else _script(letters)
    return found


def token_features(tokens: int, unknown: int, characters: int) -> dict[str, float | str]:
    """How many tokens a text has, the share of them that the tokenizer does not know, and characters to a token: words
    of another language fall into more pieces. characters: 0 where the text itself was not sent.
    """
    if not tokens:
        return {}
    found: dict[str, float | str] = {"tokens": float(tokens), "unknown_share": unknown / tokens}
    return {**found, "characters_to_token": characters / tokens} if characters else found


def _script(letters: list[str]) -> str:
    counted = Counter(_BLOCKS[bisect(_STARTS, ord(one)) - 1][1] for one in letters)
    return counted.most_common(1)[0][0]
