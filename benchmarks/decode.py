"""Tokens per second of PerceptionLM's decoder on a CPU, beside transformers, and what share of its speed memory allows.

What bounds it. A step of one row reads every weight once and does two operations with each: 2.47 GB a token for the
1B in bfloat16 (0.97 billion weights in 16 layers and 0.26 in the output head, which is the embedding too). The caches
hold a few per cent of that, so that a token cannot take less time than reading the weights from memory. That time is
measured before every turn: all threads sum up the very same bytes, in the order that reads fastest here. `share` is
the part of that speed which whole steps reach, everything else included (median over rounds). Fewer bits are fewer
bytes: int8 is 1.24 GB, int4 0.81 (4.5 bits a weight, the head in int8). The rows of a batch share one reading; past a
few rows the arithmetic of the batch shows.

Contenders take turns in one process, a few steps each, after the same context; a ratio is the median over rounds of
transformers' time over theirs in the same round. All take the whole step: embedding, layers, logits, the best token.
Transformers runs as it comes (eager, its default attention, a growing cache, no padding). Weights are random: speed
does not depend on them. They are written once as a Hugging Face folder, which transformers and we load.

    python benchmarks/decode.py                       # about 3 minutes on 4 cores
    python benchmarks/decode.py --rows 1 --rounds 5 --folder ~/random-1b     # keeps the folder for the next time
    python benchmarks/decode.py --quick               # a small model: does everything run?
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from _plm_sides import Theirs, quick_config, write_folder

from perceptic.configs_plm import DecoderConfig, PerceptionLMConfig, plm_config
from perceptic.inference.native import NativeLibrary, load_library
from perceptic.inference.plm_accelerate import AcceleratedDecoder, accelerate_plm
from perceptic.models.decoder import Decoder
from perceptic.models.kv_cache import KVCache
from perceptic.models.quantized import QuantizedDecoder, quantize_decoder
from perceptic.weights.plm_pretrained import load_plm

TRANSFORMERS, WEIGHTS = "transformers bf16", ("bf16", "int8", "int4")


@dataclass(frozen=True)
class Row:
    """One contender with one number of rows."""

    contender: str
    rows: int
    context: int
    tokens_per_second: float
    times_transformers: float
    weight_gigabytes: float
    gigabytes_per_second: float
    read_gigabytes_per_second: float
    share: float
    rounds: int


@dataclass(frozen=True)
class Contender:
    """`prepare(rows, context)` gives a function that takes one step."""

    name: str
    prepare: Callable[[int, int], Callable[[], None]]
    weights: list[torch.Tensor]

    @property
    def num_bytes(self) -> int:
        return sum(weight.nbytes for weight in self.weights)

    def read(self, library: NativeLibrary) -> None:
        """Read all weights once."""
        for weight in self.weights:
            library.run("sum_words", weight, weight.nbytes // 8)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a small model: does everything run?")
    parser.add_argument("--rows", nargs="*", type=int, default=[1, 16])
    parser.add_argument("--context", type=int, default=296, help="tokens read before (296: a question about a picture)")
    parser.add_argument("--weights", nargs="*", choices=WEIGHTS, default=[*WEIGHTS])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--steps", type=int, default=4, help="of each contender in a round")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--folder", type=Path, help="where the random weights are kept; the default throws them away")
    parser.add_argument("--no-transformers", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    config = decoder_only(quick_config() if arguments.quick else plm_config("Perception-LM-1B"))
    with tempfile.TemporaryDirectory() as scratch:
        folder = arguments.folder or Path(scratch) / "model"
        if not (folder / "config.json").exists():
            write_folder(config, folder)
        run(arguments, config.decoder, folder)


def decoder_only(config: PerceptionLMConfig) -> PerceptionLMConfig:
    """With a tower that takes no memory: it plays no part in a step."""
    small = quick_config()
    return PerceptionLMConfig(config.decoder, small.vision, image_token_id=config.image_token_id)


@torch.inference_mode()
def run(arguments: argparse.Namespace, config: DecoderConfig, folder: Path) -> None:
    print(f"{arguments.threads} threads, load {os.getloadavg()[0]:.1f} before the start, torch {torch.__version__}")
    library = load_library()
    contenders = [ours(folder, config, name) for name in arguments.weights]
    if not arguments.no_transformers:
        contenders.insert(0, theirs(folder))
    rows: list[Row] = []
    for batch in arguments.rows:
        for row in measure(contenders, batch, arguments, library):
            rows.append(row)
            print_row(row)
    report = {"threads": arguments.threads, "load_after": os.getloadavg()[0], "rows": [*map(asdict, rows)]}
    print(json.dumps(report))


def ours(folder: Path, config: DecoderConfig, weights: str) -> Contender:
    """Our decoder with its weights in this many bits."""
    model = load_plm(folder).model
    if weights != "bf16":
        model.decoder = random_quantized(config, weights)
    decoder = accelerate_plm(model, consume=True).decoder
    assert isinstance(decoder, AcceleratedDecoder)
    assert decoder.uses_native_kernels, "no compiled kernels on this machine"

    def prepare(rows: int, context: int) -> Callable[[], None]:
        cache = KVCache.empty(config, rows, context + 1024, dtype=decoder.dtype)
        ids = torch.randint(0, 1000, (rows, context))
        cache = decoder.extend(decoder.embed(ids), cache).cache
        last = ids[:, -1:]

        def step() -> None:
            nonlocal cache, last
            extended = decoder.extend(decoder.embed(last), cache)
            cache, last = extended.cache, decoder.logits(extended.hidden_BLD[:, -1]).argmax(-1, keepdim=True)

        return step

    return Contender(f"perceptic {weights}", prepare, [*decoder.parameters(), *decoder.buffers()])


def random_quantized(config: DecoderConfig, weights: str) -> QuantizedDecoder:
    """A decoder of random codes: quantising 1.2 billion weights would take longer than the rest."""
    with torch.device("meta"):
        decoder = quantize_decoder(Decoder(config).to(torch.bfloat16), weights).to_empty(device="cpu").eval()
    for name, tensor in (*decoder.named_parameters(), *decoder.named_buffers()):
        if name.endswith("codes"):
            tensor.random_(-128, 128) if tensor.dtype == torch.int8 else tensor.random_(0, 256)
        else:
            tensor.fill_(1.0 if "norm" in name else 0.0004)
    return decoder


def theirs(folder: Path) -> Contender:
    """transformers' PerceptionLM."""
    model = Theirs(folder).model

    def prepare(rows: int, context: int) -> Callable[[], None]:
        ids = torch.randint(0, 1000, (rows, context))
        output = model(input_ids=ids, use_cache=True, logits_to_keep=1)

        def step() -> None:
            nonlocal output
            last = output.logits[:, -1].argmax(-1, keepdim=True)
            output = model(input_ids=last, past_key_values=output.past_key_values, use_cache=True)

        return step

    names = ("language_model", "lm_head")
    weights = [weight for name, weight in model.named_parameters() if any(part in name for part in names)]
    return Contender(TRANSFORMERS, prepare, weights)


def measure(
    contenders: list[Contender],
    batch: int,
    arguments: argparse.Namespace,
    library: NativeLibrary,
) -> list[Row]:
    """Let the contenders take turns."""
    running = {contender.name: contender.prepare(batch, arguments.context) for contender in contenders}
    times: dict[str, list[float]] = {name: [] for name in running}
    readings: dict[str, list[float]] = {name: [] for name in running}
    for index in range(arguments.rounds + 1):
        for contender in contenders:
            reading = timed(lambda contender=contender: contender.read(library), 1)
            taken = timed(running[contender.name], arguments.steps)
            if index:  # the first round warms up
                readings[contender.name].append(reading)
                times[contender.name].append(taken)
    first = times[contenders[0].name]
    return [as_row(c, batch, arguments.context, times[c.name], readings[c.name], first) for c in contenders]


def as_row(
    contender: Contender, batch: int, context: int, times: list[float], readings: list[float], first: list[float]
) -> Row:
    middle, gigabytes = statistics.median(times), contender.num_bytes / 1e9
    return Row(
        contender=contender.name,
        rows=batch,
        context=context,
        tokens_per_second=batch / middle,
        times_transformers=statistics.median(theirs / own for theirs, own in zip(first, times, strict=True)),
        weight_gigabytes=gigabytes,
        gigabytes_per_second=gigabytes / middle,
        read_gigabytes_per_second=gigabytes / statistics.median(readings),
        share=statistics.median(reading / own for reading, own in zip(readings, times, strict=True)),
        rounds=len(times),
    )


def timed(step: Callable[[], object], count: int) -> float:
    """Seconds of one step, the mean of some."""
    start = time.perf_counter()
    for _ in range(count):
        step()
    return (time.perf_counter() - start) / count


def print_row(row: Row) -> None:
    print(
        f"{row.contender:18} rows {row.rows:3} context {row.context:5}  {row.tokens_per_second:7.1f} tokens/s  "
        f"{row.times_transformers:5.2f} x  {row.weight_gigabytes:5.2f} GB of weights at "
        f"{row.gigabytes_per_second:5.1f} GB/s = {row.share:4.0%} of {row.read_gigabytes_per_second:.1f}",
        flush=True,
    )


if __name__ == "__main__":
    main()
