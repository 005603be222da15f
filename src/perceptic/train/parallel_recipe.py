"""What a recipe says about training on several processes; with one process it changes nothing but checkpointing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from perceptic.errors import ConfigError

Sharding = Literal["auto", "none", "full", "hybrid"]


@dataclass(frozen=True)
class ParallelRecipe:
    """How processes share a model.

    Attributes:
        shard: `full` splits weights, gradients and optimiser state over all processes; `none` keeps them whole in each;
            `hybrid` splits them within groups and repeats the groups; `auto` is hybrid with one group per machine, so
            that weights never cross between machines.
        replicate: groups of `hybrid`; 0: one per machine.
        gather: number type in which weights travel and are computed with; bf16 halves both, and autocast computes in it
            anyway. Gradients are summed in fp32.
        activation_checkpointing: recompute each block's activations in the backward pass instead of keeping them.
        tensor: neighbouring processes that work on the same sequences together, each with a share of the heads and
            channels of a language model's decoder (tensor parallel); `shard` is among such groups then.
    """

    shard: Sharding = "auto"
    replicate: int = 0
    gather: Literal["fp32", "bf16"] = "fp32"
    activation_checkpointing: bool = False
    tensor: int = 1

    def __post_init__(self) -> None:
        if self.tensor < 1:
            raise ConfigError(f"parallel.tensor: must be at least 1, not {self.tensor}")
        if self.replicate < 0:
            raise ConfigError(f"parallel.replicate: must be 0 or more, not {self.replicate}")
        if self.replicate and self.shard != "hybrid":
            raise ConfigError("parallel.replicate: goes with `shard: hybrid` only")
