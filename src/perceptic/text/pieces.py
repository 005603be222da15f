"""How a cleaned text falls into pieces, and the alphabet of a piece (spec 5, steps 2 and 3).

A piece is merged on its own; pieces never span whitespace. The byte alphabet writes each of the 256 bytes as one
visible character, so that any text can be written without an unknown symbol.
"""

from __future__ import annotations

from tokenizers import Regex, pre_tokenizers

START_TOKEN = "<start_of_text>"
END_TOKEN = "<end_of_text>"
SPECIAL_TOKENS = (START_TOKEN, END_TOKEN)

WORD_END = "</w>"

_ENGLISH_SUFFIXES = ("'s", "'t", "'re", "'ve", "'m", "'ll", "'d")

# Letters and numbers that Unicode has gained since version 14, the oldest table inside a supported `tokenizers`
# (0.20: 14, 0.23: 16). With them written out the split does not depend on the installed version, and agrees with
# `regex` 2026.11 on every code point; a newer table only repeats them.
_NEW_LETTERS = """
558 58B-58C 88F C5C CDC 1C89-1C8A 208F 209D-209F A7CB-A7CF A7D2 A7D4 A7DA-A7DD A7E2 A7F1 AB6C-AB6D 105C0-105F3
107BB-107BF 10940-10959 10D4A-10D65 10D6F-10D85 10EC2-10EC7 10ED9-10EEE 1123F-11240 11380-11389 1138B 1138E
11390-113B5 113B7 113D1 113D3 11B0A 11BC0-11BE0 11DB0-11DDB 11DF1 11F02 11F04-11F10 11F12-11F33 1342F 13441-13446
13460-143FA 16100-1611D 16D40-16D6C 16EA0-16EB8 16EBB-16ED3 16FF2-16FF3 187F8-187FF 18CD6-18CDA 18CFF 18D09-18D20
18D80-18DF2 18E00-19191 191A0-191D2 1B123-1B128 1B132 1B155 1B168 1D6A6 1DF1F-1DF81 1DF90-1DF96 1DFCD-1DFFF
1E030-1E06D 1E4D0-1E4EB 1E5D0-1E5ED 1E5F0 1E6C0-1E6DE 1E6E0-1E6E2 1E6E4-1E6E5 1E6E7-1E6ED 1E6F0-1E6F4 1E6FE-1E6FF
2B739-2B73F 2B81E 2CEA2-2CEAD 2EBF0-2EE5D 31350-33479 3D000-3FC3F
"""
_NEW_NUMBERS = """
10D40-10D49 116D0-116E3 11BF0-11BF9 11DE0-11DE9 11F50-11F59 1246F 12475-1247F 12550-12686 16130-16139 16D70-16D79
16FF4-16FF6 1CCF0-1CCF9 1D2C0-1D2D3 1E4F0-1E4F9 1E5F1-1E5FA
"""

# A combining mark whose upper case is a letter (iota). In the original's case-insensitive pattern neither the letters
# nor "anything but letters" match it: it separates pieces and is dropped.
_DROPPED = "\u0345"


def byte_symbols() -> dict[int, str]:
    """Byte -> its one-character symbol, in the order of the vocabulary ids.

    The 188 bytes that print in Latin-1 stand for themselves and come first; the others follow in increasing order
    and are written with the code points from 256 on.
    """
    visible = [*range(33, 127), *range(161, 173), *range(174, 256)]
    hidden = [byte for byte in range(256) if byte not in set(visible)]
    symbols = {byte: chr(byte) for byte in visible}
    return symbols | {byte: chr(256 + position) for position, byte in enumerate(hidden)}


def make_splitter(*, special_tokens: bool) -> pre_tokenizers.PreTokenizer:
    """The Rust pre-tokenizer: cleaned text -> pieces written in byte symbols. Whitespace is dropped.

    With `special_tokens`, a special token written literally is one piece where the scan reaches it; otherwise it is
    split like any other text.
    """
    letter = rf"\p{{L}}{_character_class(_NEW_LETTERS)}"
    number = rf"\p{{N}}{_character_class(_NEW_NUMBERS)}"
    signs = rf"[^\s{letter}{number}{_DROPPED}]+"
    literals = (*(SPECIAL_TOKENS if special_tokens else ()), *_ENGLISH_SUFFIXES)
    pattern = "|".join([*map(_any_case, literals), f"[{letter}]+", f"[{number}]", signs])
    split = pre_tokenizers.Split(Regex(pattern), behavior="removed", invert=True)
    return pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])


def _any_case(literal: str) -> str:
    # Spelled out because the (?i) of Oniguruma folds several characters into one (a ligature "ﬆ" for "st") and that
    # of the `regex` package does not. The long s is the only other character that folds to a letter used here.
    return "".join(
        f"[{char}{char.upper()}{'ſ' if char == 's' else ''}]" if char.isalpha() else char for char in literal
    )


def _character_class(ranges: str) -> str:
    # Literal characters, not escapes: regular expression dialects agree on these.
    return "".join("-".join(chr(int(end, 16)) for end in item.split("-")) for item in ranges.split())
