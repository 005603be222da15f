"""A PerceptionLM's decoder split over the processes of `torchrun`, from outside.

    mesh = init_device_mesh("cuda", (world_size,))
    shard_decoder(model, mesh)            # in every process, after loading
    stream(model, tokenizer, prompt)      # in every process, with the same prompt and a seed

Each process keeps a share of the heads and of the feed-forward's channels, and the keys and values of its heads: both
shrink by the number of processes, and each reads its share at the same time. Two sums a layer cross between them.
Vision tower, projector, norms, embedding and head are whole in every process. All processes compute the same logits; a
run with temperature needs a seed, or they would draw different tokens.
"""

from __future__ import annotations

from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor
from torch.distributed.tensor.parallel import ColwiseParallel, ParallelStyle, RowwiseParallel, parallelize_module

from perceptic.errors import ConfigError
from perceptic.models.decoder import Decoder
from perceptic.models.perception_lm import PerceptionLM

_COLUMNS = ("attention.wq", "attention.wk", "attention.wv", "feed_forward.w1", "feed_forward.w3")
_ROWS = ("attention.wo", "feed_forward.w2")


def shard_decoder(model: PerceptionLM, mesh: DeviceMesh) -> PerceptionLM:
    """Keep this process's share of a decoder; the model itself is changed and returned.

    Its configuration then counts the heads of the share, so that caches made for it fit. It is for inference: it has no
    whole weights to save any more.

    Args:
        model: the same in every process, on the mesh's devices, not quantised and not accelerated.
        mesh: of one dimension.

    Raises:
        ConfigError: heads, key-value heads or feed-forward channels that the processes cannot share evenly, or a
            decoder that is not of plain matrices.
    """
    config, processes = model.config.decoder, mesh.size()
    if type(model.decoder) is not Decoder:  # quantised or accelerated
        raise ConfigError("only decoders of plain matrices can be split over processes: load without weights=...")
    if any(isinstance(parameter, DTensor) for parameter in model.decoder.parameters()):
        raise ConfigError("the decoder is split already")
    split_blocks(model.decoder, mesh)
    share = config.replace(
        n_heads=config.n_heads // processes,
        n_kv_heads=config.num_kv_heads // processes,
        head_dim=config.head_size,
    )
    model.decoder.config = share
    model.config = model.config.replace(decoder=share)
    return model


def split_blocks(decoder: Decoder, mesh: DeviceMesh) -> None:
    """Split the matrices of a decoder's blocks, in place; they compute as before, every process with the same inputs.

    Raises:
        ConfigError: heads, key-value heads or feed-forward channels that the processes cannot share evenly.
    """
    for name in ("num_kv_heads", "n_heads", "ffn_width"):
        if getattr(decoder.config, name) % mesh.size():
            raise ConfigError(
                f"the decoder's {name} of {getattr(decoder.config, name)} cannot be shared evenly by {mesh.size()} "
                "processes"
            )
    for block in decoder.layers:
        plan: dict[str, ParallelStyle] = {name: ColwiseParallel() for name in _COLUMNS}
        parallelize_module(block, mesh, plan | {name: RowwiseParallel() for name in _ROWS})
