"""How many web captions per second become ids: ClipTokenizer against open_clip's pure-Python SimpleTokenizer.

What bounds it. One thread of Python. A caption of 15 words costs three things: cleaning, splitting and merging, and
filling a row. The merging itself is nothing to either side, as both remember the words they have met; the peer pays
for cleaning every text with `ftfy` (a third of its time), for a Unicode regular expression, and for spelling every
piece in byte symbols before it can look it up. Here a caption of plain ASCII without '&', on which the cleaning does
nothing, skips it, and words are looked up as they stand. What remains is mostly cleaning: the 8 % of captions that do
need `ftfy` take a good third of the time, so the gain falls as they get more. Threads would not help: the work is
Python's own, and the Rust batch encoder on 4 threads took twice as long as the lookup on one.

Both sides get the same texts, seeded: words drawn by a Zipf law from the CLIP vocabulary, 5 to 25 per caption, with
capitals, digits and punctuation; 8 % carry accents, curly quotes, other scripts, emoji, entities or mojibake. Rounds
alternate in one process, and the ids of every round are compared. `cold` is the first pass over fresh texts, with
both caches empty; `warm` is the median of the later ones, each over texts that neither side has seen.

Run: python benchmarks/tokenizing.py [--captions 20000] [--rounds 5]
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import platform
import random
import statistics
import time
from typing import Any

from open_clip.tokenizer import SimpleTokenizer

from perceptic.text.clip_tokenizer import ClipTokenizer

CONTEXT_LENGTH = 32
TAILS = (".", "!", " | eBay", " - 2019", " (12 photos)", ", stock photo", " #3")
UNUSUAL = (
    (0.03, " café naïve"),
    (0.02, " it’s “nice” – 日本語"),
    (0.01, " &amp; more"),
    (0.01, " schÃ¶n"),
    (0.01, " 😀"),
)


def make_captions(words: list[str], count: int, seed: int) -> list[str]:
    rng = random.Random(seed)
    cumulative = list(itertools.accumulate(1 / rank for rank in range(1, len(words) + 1)))
    return [make_caption(words, cumulative, rng) for _ in range(count)]


def make_caption(words: list[str], cumulative: list[float], rng: random.Random) -> str:
    text = " ".join(rng.choices(words, cum_weights=cumulative, k=rng.randint(5, 25)))
    if rng.random() < 0.3:
        text = text.title()
    if rng.random() < 0.5:
        text += rng.choice(TAILS)
    dice = rng.random()
    for share, tail in UNUSUAL:
        if dice < share:
            return text + tail
        dice -= share
    return text


def measure(captions: int, rounds: int) -> dict[str, Any]:
    ours, theirs = ClipTokenizer.find(context_length=CONTEXT_LENGTH), SimpleTokenizer(context_length=CONTEXT_LENGTH)
    whole_words = [symbol[:-4] for symbol in theirs.encoder if symbol.endswith("</w>")]
    words = [word for word in whole_words if word.isascii() and word.isalpha()]
    times: dict[str, list[float]] = {"perceptic": [], "open_clip": []}
    for seed in range(rounds + 1):
        texts = make_captions(words, captions, seed)
        sides = [("perceptic", ours), ("open_clip", theirs)]
        ids = {}
        for name, tokenizer in sides if seed % 2 else sides[::-1]:
            start = time.perf_counter()
            ids[name] = tokenizer(texts)
            times[name].append(time.perf_counter() - start)
        if not ids["perceptic"].equal(ids["open_clip"]):
            raise SystemExit("the ids differ: the timings mean nothing")
    result: dict[str, Any] = {"captions_per_round": captions, "rounds": rounds, "threads": 1}
    for name, taken in times.items():
        result[name] = {
            "cold_captions_per_second": round(captions / taken[0]),
            "warm_captions_per_second": round(captions / statistics.median(taken[1:])),
        }
    ratios = [theirs_s / ours_s for ours_s, theirs_s in zip(times["perceptic"], times["open_clip"], strict=True)]
    result["ratio_cold"] = round(ratios[0], 2)
    result["ratio_warm"] = round(statistics.median(ratios[1:]), 2)
    result["ratio_warm_range"] = [round(min(ratios[1:]), 2), round(max(ratios[1:]), 2)]
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--captions", type=int, default=20_000, help="captions per round")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    result = measure(arguments.captions, arguments.rounds)
    result["machine"] = f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    print(json.dumps(result))


if __name__ == "__main__":
    main()
