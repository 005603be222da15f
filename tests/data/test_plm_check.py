"""The check of a mix counts what is there, what is cut and what cannot be used."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from perceptic.configs_plm import PerceptionLMPreprocessing
from perceptic.data.plm_check import check_mix
from perceptic.data.plm_samples import SampleMaker, TrainingSample
from perceptic.data.registry import Mix, open_mix, parse_mix, read_registry
from perceptic.media.chunks import ChunkTransform
from perceptic.text.llama_tokenizer import LlamaTokenizer

TOKENIZER = LlamaTokenizer.from_file(Path(__file__).parents[1] / "goldens" / "plm" / "tokenizer" / "tokenizer.model")
MAKE = SampleMaker(TOKENIZER, ChunkTransform(PerceptionLMPreprocessing(tile_size=8, max_num_tiles=4)), 4, 160)
ASKED = {"from": "human", "value": "What is it?"}
ANSWER = {"from": "assistant", "value": "A cat."}


@pytest.fixture
def mix(tmp_path: Path) -> Mix:
    Image.new("RGB", (16, 8)).save(tmp_path / "a.png")
    rows = {
        "pictures": [
            {"image": "a.png", "conversations": [ASKED, ANSWER]},
            {"image": "a.png", "conversations": [ASKED, ANSWER] * 5},
            {"image": "gone.png", "conversations": [ASKED, ANSWER]},
            {"image": "lost.png", "conversations": [ASKED, ANSWER]},
            {"image": "a.png", "conversations": [{"from": "human", "value": "why " * 90}, ANSWER]},
        ],
        "texts": [{"text": "A cat."}],
        "bad": [{"text": None}],
    }
    for name, values in rows.items():
        (tmp_path / f"{name}.jsonl").write_text("\n".join(map(json.dumps, values)))
    (tmp_path / "datasets.yaml").write_text("".join(f"{name}: {{annotation: {name}.jsonl}}\n" for name in rows))
    return open_mix(parse_mix("pictures:2,texts:1,bad:1"), read_registry(tmp_path / "datasets.yaml"))


def test_report(mix: Mix) -> None:
    seen: list[TrainingSample] = []
    places, progress = [], []

    def keep(where: str, sample: TrainingSample) -> None:
        places.append(Path(where).name)
        seen.append(sample)

    report = check_mix(
        mix, MAKE, num_tokens=400, on_row=lambda done, total: progress.append((done, total)), on_sample=keep
    )
    pictures, texts, bad = report.row_sets
    assert (pictures.num_rows, pictures.num_usable, pictures.num_cut) == (5, 2, 1)
    assert pictures.skipped == {"no such file": 2, "no room for the question": 1}
    assert len(pictures.examples["no such file"]) == 2
    assert "pictures.jsonl:3" in pictures.examples["no such file"][0]
    assert pictures.media_types == {"image": 2}
    # Two tiles of 8 pixels would do, but pictures are enlarged to nearly all the tiles allowed (spec 4).
    assert pictures.num_chunks == sum(len(sample.chunks) for sample in seen[:2] if sample.chunks is not None)
    assert pictures.num_tokens == sum(sample.num_inputs for sample in seen[:2])
    assert pictures.longest == max(sample.num_inputs for sample in seen[:2])
    assert pictures.num_learned == sum(len(sample.label_positions) for sample in seen[:2])
    assert (texts.num_usable, texts.share, texts.media_types) == (1, 0.25, {"text": 1})
    assert (bad.num_usable, bad.skipped, bad.longest) == (0, {"no conversation": 1}, 0)
    assert report.num_skipped == 4
    assert report.packed_share == sum(sample.num_inputs for sample in seen) / 400
    assert places == ["pictures.jsonl:1", "pictures.jsonl:2", "texts.jsonl:1"]
    assert progress == [(i + 1, 7) for i in range(7)]
