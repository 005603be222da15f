"""Asking a PerceptionLM on a CPU, beside transformers: time to the first token, batches, second questions, memory.

What bounds it. Reading a prompt is arithmetic: every weight meets every token, 2 x 0.97 billion operations a token in
the 1B's decoder, and 0.7 trillion a picture in its vision tower (1,025 tokens, 23 blocks), more than the decoder needs
for the 256 tokens that come of it. Writing an answer is memory traffic: each token reads 2.5 GB of bfloat16 weights and
computes next to nothing with them. Hence

- one picture or one video cannot be faster than the machine's matrix products; what is gained over transformers is
  the layout of their operands, and what lies between them;
- a batch gains in the answers, where 16 rows share one reading of the weights, and in short prompts without pictures,
  which are bound by that reading too; a prompt with pictures costs in a batch what it costs alone;
- a second question about the same video needs neither the tower nor the decoder for what it shares with the first.

Both sides load the same folder of random bfloat16 weights and are asked the same; they take turns in one process, and
a ratio is the median over rounds. Pixels are ready: no decoding or resizing is timed. Our time includes the making of
the prompt (comparing pictures for the prefix cache). Peak memory is what a fresh process needs above its imports
(VmHWM; Linux) to load the folder and read the prompt. `mapped` is the part of it that is pages of the weights' file,
which the system can drop and read again.

    python benchmarks/plm.py                            # all lines, about 12 minutes on 4 cores
    python benchmarks/plm.py --lines prefill second     # some of them
    python benchmarks/plm.py --quick                    # a small model: does everything run? No numbers of interest
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from _plm_sides import Ours, Question, Theirs, make_question, quick_config, write_folder

from perceptic.configs_plm import PerceptionLMConfig, plm_config
from perceptic.inference.generation import Generation, generate
from perceptic.inference.prefix_cache import PrefixCache
from perceptic.inference.sampling import GenerationOptions

LINES = ("prefill", "batch", "second", "memory")
PROMPTS = {"text": 0, "one picture": 1, "8-frame video": 8}  # chunks of each
ROUND_SECONDS, MIN_ROUNDS, MAX_ROUNDS = 25.0, 3, 9
# Two videos, six pictures, eight questions of text alone; answers of different lengths.
MIXED_CHUNKS = (2, 2, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0)
MIXED_ANSWERS = (32, 48, 64, 80)


@dataclass(frozen=True)
class FirstToken:
    """Time from pixels to the first token of an answer, of both sides."""

    prompt: str
    num_tokens: int
    seconds: float
    seconds_transformers: float
    ratio: float
    gigaflops: float
    rounds: int


@dataclass(frozen=True)
class Batch:
    """16 prompts one after the other, and together."""

    answer_tokens: int
    seconds_one_by_one: float
    seconds_together: float
    ratio: float
    same_tokens: float


@dataclass(frozen=True)
class SecondQuestion:
    """Time to first token of the first and the second question about one video."""

    first_seconds: float
    second_seconds: float
    share: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a small model, one round: does everything run?")
    parser.add_argument("--lines", nargs="*", choices=LINES, default=[*LINES])
    parser.add_argument("--prompts", nargs="*", choices=[*PROMPTS], default=[*PROMPTS], help="of the line `prefill`")
    parser.add_argument("--folder", type=Path, help="keep the random weights here (3 GB) and use them again")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--child", nargs=2, metavar=("SIDE", "PROMPT"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    if arguments.child:
        print(json.dumps(peak_memory(arguments.folder, *arguments.child)))
        return
    with tempfile.TemporaryDirectory() as scratch:
        folder = arguments.folder or Path(scratch) / "plm"
        config = quick_config() if arguments.quick else plm_config("Perception-LM-1B")
        if not (folder / "config.json").exists():
            write_folder(config, folder)
        run(config, folder, arguments)


def run(config: PerceptionLMConfig, folder: Path, arguments: argparse.Namespace) -> None:
    print(f"{arguments.threads} threads, load {os.getloadavg()[0]:.1f} before the start, torch {torch.__version__}")
    report: dict[str, object] = {"threads": arguments.threads, "quick": arguments.quick}
    if "memory" in arguments.lines:  # first: children need room
        report["memory"] = measure_memory(folder, arguments.threads)
    if {"prefill", "batch", "second"} & {*arguments.lines}:
        ours = Ours(folder)
        if "second" in arguments.lines:
            report["second"] = asdict(measure_second(ours, 1 if arguments.quick else 3))
        if "batch" in arguments.lines:
            report["batch"] = asdict(measure_batch(ours, arguments.quick))
        if "prefill" in arguments.lines:
            rows = measure_prefill(ours, Theirs(folder), arguments.prompts, arguments.quick)
            report["prefill"] = [*map(asdict, rows)]
    print(json.dumps(report | {"load_after": os.getloadavg()[0]}))


def measure_prefill(ours: Ours, theirs: Theirs, prompts: list[str], quick: bool) -> list[FirstToken]:
    """Both sides in turns, prompt by prompt."""
    rows, config = [], ours.config
    print(f"\nfirst token: {'tokens':>26} {'perceptic':>12} {'transformers':>12} {'ratio':>7}   rate")
    for name in prompts:
        chunks = PROMPTS[name]
        question = make_question(config, chunks)
        agreement = compare_logits(ours, theirs, question)  # and the unmeasured first round
        times = alternate(
            {"ours": lambda q=question: ours.first_token(q), "theirs": lambda q=question: theirs.first_token(q)}, quick
        )
        seconds, other = (statistics.median(times[side]) for side in ("ours", "theirs"))
        ratio = statistics.median(b / a for a, b in zip(times["ours"], times["theirs"], strict=True))
        rate = count_flops(config, len(question.token_ids), chunks) / seconds / 1e9
        rows.append(FirstToken(name, len(question.token_ids), seconds, other, ratio, rate, len(times["ours"])))
        print(
            f"  {name:16} {len(question.token_ids):16} tokens {seconds:10.3f} s {other:10.3f} s {ratio:6.2f} x "
            f"{rate:6.0f} GFLOP/s   ({len(times['ours'])} rounds; logits' cosine {agreement:.5f})",
            flush=True,
        )
    return rows


def compare_logits(ours: Ours, theirs: Theirs, question: Question) -> float:
    """A wrong answer has no speed: the same best token, or one that rounding makes as good. The cosine of logits."""
    mine, yours = ours.logits(question), theirs.logits(question)
    cosine = F.cosine_similarity(mine, yours, dim=0).item()
    best = int(mine.argmax())
    # The two sides round at different places (ours as the original does).
    assert yours.max() - yours[best] < 0.1 * yours.std(), f"{best} against {int(yours.argmax())}"
    assert cosine > 0.99, f"the sides disagree: cosine {cosine}"
    return cosine


def measure_second(ours: Ours, rounds: int) -> SecondQuestion:
    """Another question about a video that the prefix cache knows."""
    first, second = [], []
    for index in range(rounds):
        cache = PrefixCache()
        asked = make_question(ours.config, 8, seed=index)
        follow = Question((*asked.token_ids[:-30], *reversed(asked.token_ids[-30:])), asked.pixels)
        first.append(timed(lambda q=asked, c=cache: ours.first_token(q, c)))
        second.append(timed(lambda q=follow, c=cache: ours.first_token(q, c)))
    share = statistics.median(b / a for a, b in zip(first, second, strict=True))
    result = SecondQuestion(statistics.median(first), statistics.median(second), share)
    print(f"\nsecond question about an 8-frame video: {result.second_seconds:.3f} s, {share:.1%} of the first")
    return result


def measure_batch(ours: Ours, quick: bool) -> Batch:
    """16 mixed prompts through `generate`, one at a time and together; the time of reading them is part of both."""
    prompts = [
        ours.prompt(make_question(ours.config, chunks, text_tokens=24 + 5 * index, seed=100 + index))
        for index, chunks in enumerate(MIXED_CHUNKS)
    ]
    lengths = [MIXED_ANSWERS[index % len(MIXED_ANSWERS)] // (8 if quick else 1) for index in range(len(prompts))]
    options = [GenerationOptions(max_new_tokens=length) for length in lengths]
    answers: dict[int, list[Generation]] = {}

    def run_all(batch_size: int) -> None:
        answers[batch_size] = generate(ours.model, ours.tokenizer, prompts, options, batch_size=batch_size)

    run_all(len(prompts)) if quick else generate(ours.model, ours.tokenizer, prompts[:1], options[:1])
    together, alone = timed(lambda: run_all(len(prompts))), timed(lambda: run_all(1))
    counts = {size: sum(len(answer.token_ids) for answer in given) for size, given in answers.items()}
    ratio = (counts[len(prompts)] / together) / (counts[1] / alone)
    # In bfloat16 another order of sums can change a token, and everything after it; float32 tests hold them equal.
    pairs = zip(answers[1], answers[len(prompts)], strict=True)
    same = statistics.mean(a.token_ids[:8] == b.token_ids[:8] for a, b in pairs)
    print(
        f"\n16 mixed prompts, {counts[1]} tokens of answers: {counts[1] / alone:.1f} tokens/s one by one, "
        f"{counts[len(prompts)] / together:.1f} together, {ratio:.2f} x (the first 8 tokens agree in {same:.0%})"
    )
    return Batch(counts[1], alone, together, ratio, same)


def alternate(calls: dict[str, Callable[[], object]], quick: bool) -> dict[str, list[float]]:
    """Seconds of each call, taken in turns."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    start = time.perf_counter()
    while (done := len(next(iter(times.values())))) < (1 if quick else MAX_ROUNDS):
        if done >= MIN_ROUNDS and time.perf_counter() - start > ROUND_SECONDS:
            break
        for name, call in calls.items():
            times[name].append(timed(call))
    return times


def timed(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def count_flops(config: PerceptionLMConfig, tokens: int, chunks: int) -> float:
    """Two per multiplication and addition of the matrix products and of attention; logits of one position."""
    d, v = config.decoder, config.vision
    per_layer = 2 * d.dim * d.head_size * (d.n_heads + d.num_kv_heads) + 3 * d.dim * d.ffn_width
    decoder = 2 * tokens * d.n_layers * per_layer + 2 * d.dim * d.vocab_size
    decoder += 2 * tokens**2 * d.n_layers * d.n_heads * d.head_size  # half of the square is masked
    seen = v.grid_size**2 + v.num_prefix_tokens
    block = 8 * seen * v.width**2 + 4 * seen * v.width * v.mlp_width + 4 * seen**2 * v.width
    patches = v.grid_size**2 * 2 * (3 * v.patch_size**2 * v.width + v.width * d.dim + d.dim**2)
    return decoder + chunks * (v.layers * block + patches)


def measure_memory(folder: Path, threads: int) -> list[dict[str, object]]:
    rows = []
    print("\npeak memory above the imports, weights included")
    for prompt in ("one picture", "8-frame video"):
        for side in (Ours.name, Theirs.name):
            command = [sys.executable, __file__, "--threads", str(threads), "--folder", str(folder)]
            done = subprocess.run([*command, "--child", side, prompt], check=True, capture_output=True, text=True)
            rows.append(json.loads(done.stdout.splitlines()[-1]))
            print(f"  {prompt:16} {side:14} {rows[-1]['peak_mib']:6} MiB, {rows[-1]['mapped_mib']:5} of it mapped")
    return rows


def peak_memory(folder: Path, side: str, prompt: str) -> dict[str, object]:
    """In a fresh process: peak resident MiB above the imports, to load a side and read a prompt."""
    import transformers.models.perception_lm.modeling_perception_lm  # noqa: F401  so that both sides start alike

    before, mapped = resident_mib("VmRSS"), resident_mib("RssFile")
    loaded = Ours(folder) if side == Ours.name else Theirs(folder)
    question = make_question(plm_config_of(folder), PROMPTS[prompt])
    loaded.first_token(question)
    row = {"prompt": prompt, "side": side, "peak_mib": round(resident_mib("VmHWM") - before)}
    return row | {"mapped_mib": round(resident_mib("RssFile") - mapped)}


def plm_config_of(folder: Path) -> PerceptionLMConfig:
    from perceptic.weights.plm_folder import read_plm_folder

    return read_plm_folder(folder).config


def resident_mib(field: str) -> float:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) / 1024
    raise RuntimeError(f"no {field} in /proc/self/status")


if __name__ == "__main__":
    main()
