"""Where a phase of a PLM recipe gets its batches: packed conversations, words of patches, or both side by side."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from perceptic.data.mixing import Reader, make_order
from perceptic.data.packing import PackedBatch
from perceptic.data.patch_words import AccompaniedStream, PatchMaker, PatchStream
from perceptic.data.plm_samples import SampleMaker
from perceptic.data.plm_stream import MakeSample, PackedStream, PackingSettings, SampleStream
from perceptic.data.registry import open_mix, parse_mix, read_registry
from perceptic.data.skipped import SkippedSamples
from perceptic.media.chunks import ChunkTransform
from perceptic.text.llama_tokenizer import LlamaTokenizer
from perceptic.train.plan import PlannedStep
from perceptic.train.plm_recipe import PlmPhaseRecipe
from perceptic.train.sources import AheadOfTime


@dataclass(frozen=True)
class PhaseReader:
    """What it takes to read a phase's rows in one of the processes that train together.

    Attributes:
        seed: of the order of rows. transform, tokens_per_chunk: of pictures, as the phase's model takes them.
    """

    registry: Path
    tokenizer: LlamaTokenizer
    reader: Reader
    phase: PlmPhaseRecipe
    seed: int
    transform: ChunkTransform
    tokens_per_chunk: int

    def open(self, accumulate: int, device: torch.device) -> PackedSource:
        """Everything that the phase learns from; `accumulate` micro-batches are made ahead.

        Raises:
            DataError: rows that cannot be read. ConfigError: micro-batches that processes cannot share.
        """
        phase, streams = self.phase, list[SampleStream]()
        batches: PackedStream | PatchStream | AccompaniedStream
        if phase.learn == "patches":
            batches = self._patches(phase.mix, phase.num_sequences, streams)
        else:
            batches = self._conversations(streams)
        if phase.beside:
            beside = [self._patches(words.mix, words.num_sequences, streams) for words in phase.beside]
            batches = AccompaniedStream(batches, beside)
        return PackedSource(tuple(streams), AheadOfTime(batches, accumulate), device)

    def _conversations(self, streams: list[SampleStream]) -> PackedStream:
        stage = self.phase.settings
        make = SampleMaker(
            self.tokenizer, self.transform, self.tokens_per_chunk, stage.max_tokens, template=stage.template
        )
        streams.append(self._samples(self.phase.mix, make))
        num_sequences = self._share(self.phase.num_sequences)
        settings = PackingSettings(num_sequences, stage.max_tokens, self.tokenizer.eos_id, self.phase.window)
        return PackedStream(streams[-1], settings)

    def _patches(self, mix: str, num_sequences: int, streams: list[SampleStream]) -> PatchStream:
        make = PatchMaker(self.tokenizer, self.transform, self.tokens_per_chunk, self.phase.settings.template)
        streams.append(self._samples(mix, make))
        return PatchStream(streams[-1], self._share(num_sequences))

    def _samples(self, mix_text: str, make: MakeSample) -> SampleStream:
        mix = open_mix(parse_mix(mix_text), read_registry(self.registry))
        order = make_order(self.phase.order, mix, self.reader, self.seed)
        return SampleStream(mix, order, make, SkippedSamples(self.phase.skip_limit), workers=self.phase.workers)

    def _share(self, num_sequences: int) -> int:
        return self.reader.share_of(num_sequences, f"phase {self.phase.name}: num_sequences")


@dataclass(frozen=True)
class PackedSource:
    """A phase's packed batches, made one ahead."""

    streams: tuple[SampleStream, ...]
    batches: AheadOfTime[PackedBatch]
    device: torch.device

    def batch(self, planned: PlannedStep) -> PackedBatch:
        return self.batches.next().to(self.device)

    def state(self) -> dict[str, Any]:
        return self.batches.state()

    def restore(self, state: Mapping[str, Any]) -> None:
        self.batches.restore(dict(state))

    @property
    def skipped(self) -> SkippedSamples:
        """Rows of the phase that could not be used, up to the last batch that was handed out."""
        found = SkippedSamples(self.streams[0].skipped.limit)
        found.counts.update(self.batches.state()["skipped"])
        return found

    def figures(self, planned: PlannedStep) -> dict[str, float]:
        return {}

    def close(self) -> None:
        self.batches.close()
        for stream in self.streams:
            stream.close()
