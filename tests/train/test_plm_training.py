"""From the world's rows to steps of training: it learns, and a run stopped anywhere goes on with the same bits."""

from __future__ import annotations

import copy
import json
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from perceptic.configs_plm import PerceptionLMPreprocessing, plm_config
from perceptic.data.mixing import Reader, ShuffledOrder
from perceptic.data.plm_samples import SampleMaker
from perceptic.data.plm_stream import PackedStream, PackingSettings, SampleStream
from perceptic.data.registry import Mix, open_mix, parse_mix, read_registry
from perceptic.data.skipped import SkippedSamples
from perceptic.media.chunks import ChunkTransform
from perceptic.models.perception_lm import PerceptionLM
from perceptic.text.llama_tokenizer import LlamaTokenizer
from perceptic.train.optimizers import make_optimizer
from perceptic.train.plm_objective import ResponseLoss
from perceptic.train.plm_stages import PlmStage
from perceptic.world.export import export_world
from perceptic.world.export_chunks import WorldSettings

TOKENIZER = LlamaTokenizer.from_file(Path(__file__).parents[1] / "goldens" / "plm" / "tokenizer" / "tokenizer.model")
STAGE = PlmStage(layer_scale_init=0.5, drop_path=0.2, max_num_tiles=1, max_video_frames=2, max_tokens=512)
PREPROCESSING = STAGE.preprocessing(PerceptionLMPreprocessing(tile_size=16))


@pytest.fixture(scope="module")
def mix(tmp_path_factory: pytest.TempPathFactory) -> Mix:
    root = tmp_path_factory.mktemp("world") / "world"
    export_world(root, WorldSettings(num_images=8, num_videos=2, num_zero_shot=0))
    registry = read_registry(root / "plm" / "datasets.yaml")
    return open_mix(parse_mix("world_image:2,world_video:1,world_text:1,world_multi_image:1"), registry)


@dataclass
class Run:
    """A tiny model in training, with all that has a state."""

    model: PerceptionLM
    optimizer: torch.optim.Optimizer
    stream: PackedStream

    def steps(self, count: int) -> list[float]:
        objective = ResponseLoss(PREPROCESSING)
        losses = []
        for _ in range(count):
            loss, _ = objective.loss(self.model, self.stream.next())
            loss.backward()
            self.optimizer.step()
            self.optimizer.zero_grad()
            losses.append(loss.item())
        return losses


def start(mix: Mix) -> Run:
    torch.manual_seed(0)
    config = plm_config("PLM-Nano")
    config = config.replace(
        decoder=config.decoder.replace(dim=32, n_layers=1, multiple_of=32, vocab_size=TOKENIZER.vocab_size),
        vision=config.vision.replace(width=48, layers=1, image_size=16, patch_size=4),
        image_token_id=TOKENIZER.image_id,
    )
    model = PerceptionLM(STAGE.model_config(config)).train()
    STAGE.freeze(model)
    optimizer = make_optimizer("adamw", model, (0.9, 0.95), 1e-8, 0.01)
    for group in optimizer.param_groups:
        group["lr"] = 0.01
    make = SampleMaker(TOKENIZER, ChunkTransform(PREPROCESSING), model.tokens_per_chunk, STAGE.max_tokens)
    samples = SampleStream(mix, ShuffledOrder(mix, Reader(), 1), make, SkippedSamples(limit=0))
    return Run(model, optimizer, PackedStream(samples, PackingSettings(1, 512, TOKENIZER.eos_id, window=6)))


def test_it_learns(mix: Mix) -> None:
    losses = start(mix).steps(25)
    assert losses[0] > 5
    assert sum(losses[-3:]) / 3 < 0.75 * losses[0]


@pytest.mark.parametrize("stop", [1, 4])
def test_a_stopped_run_goes_on_with_the_same_bits(mix: Mix, stop: int) -> None:
    run = start(mix)
    run.steps(stop)
    saved = copy.deepcopy((run.model.state_dict(), run.optimizer.state_dict(), torch.get_rng_state()))
    position = json.dumps(run.stream.state())
    wanted = run.steps(4)
    again = start(mix)
    again.model.load_state_dict(saved[0])
    again.optimizer.load_state_dict(saved[1])
    again.stream.restore(json.loads(position))
    torch.set_rng_state(saved[2])  # DropPath draws from it
    assert again.steps(4) == wanted
