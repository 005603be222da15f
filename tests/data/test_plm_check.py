"""The check of a mix counts what is there, what is cut and what cannot be used."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from perceptic.configs_plm import PerceptionLMPreprocessing
from perceptic.data.check_table import TextTable, errors_table, rows_table
from perceptic.data.checking import spread
from perceptic.data.plm_check import MixReport, check_mix
from perceptic.data.plm_rows import PlmRow
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
    rows: dict[str, list[dict[str, Any]]] = {
        "pictures": [
            {"image": "a.png", "conversations": [ASKED, ANSWER]},
            {"image": "a.png", "conversations": [ASKED, ANSWER] * 5},
            {"image": "gone.png", "conversations": [ASKED, ANSWER]},
            {"image": "lost.png", "conversations": [ASKED, ANSWER]},
            {"image": "a.png", "conversations": [{"from": "human", "value": "why " * 90}, ANSWER]},
        ],
        "texts": [{"text": "A cat."}, {"text": " "}],
        "bad": [{"text": None}],
    }
    for name, values in rows.items():
        (tmp_path / f"{name}.jsonl").write_text("\n".join(map(json.dumps, values)))
    (tmp_path / "datasets.yaml").write_text("".join(f"{name}: {{annotation: {name}.jsonl}}\n" for name in rows))
    return open_mix(parse_mix("pictures:2,texts:1,bad:1"), read_registry(tmp_path / "datasets.yaml"))


def test_report(mix: Mix) -> None:
    progress: list[tuple[int, int]] = []
    checked = check_mix(mix, MAKE, num_tokens=400, show=9, on_row=lambda done, total: progress.append((done, total)))
    report, seen = checked.report, [shown.sample for shown in checked.shown]
    pictures, texts, bad = report.row_sets
    assert (pictures.num_rows, pictures.num_read, pictures.num_usable, pictures.num_cut) == (5, 5, 2, 1)
    assert pictures.skipped == {"no such file": 2, "no room for the question": 1}
    assert len(pictures.examples["no such file"]) == 2
    assert "pictures.jsonl:3" in pictures.examples["no such file"][0]
    assert pictures.media_types == {"image": 2}
    # Two tiles of 8 pixels would do, but pictures are enlarged to nearly all the tiles allowed (spec 4).
    assert pictures.num_chunks == sum(len(sample.chunks) for sample in seen[:2] if sample.chunks is not None)
    assert pictures.num_tokens == sum(sample.num_inputs for sample in seen[:2])
    assert pictures.longest == max(sample.num_inputs for sample in seen[:2])
    assert pictures.num_learned == sum(len(sample.label_positions) for sample in seen[:2])
    assert (texts.num_usable, texts.num_silent, texts.share, texts.media_types) == (2, 1, 0.25, {"text": 2})
    assert (bad.num_usable, bad.skipped, bad.longest) == (0, {"no conversation": 1}, 0)
    assert report.num_skipped == 4
    assert report.is_complete
    assert report.packed_share == sum(sample.num_inputs for sample in seen) / 800, "two sequences"
    assert [Path(shown.where).name for shown in checked.shown] == [
        "pictures.jsonl:1",
        "pictures.jsonl:2",
        "texts.jsonl:1",
        "texts.jsonl:2",
    ]
    assert [shown.data_set for shown in checked.shown] == ["pictures", "pictures", "texts", "texts"]
    assert progress == [(5, 8), (7, 8), (8, 8)]


def test_processes_find_the_same(mix: Mix) -> None:
    one, two = (check_mix(mix, MAKE, num_tokens=400, show=2, jobs=jobs) for jobs in (1, 2))
    assert one.report == two.report
    assert [shown.where for shown in one.shown] == [shown.where for shown in two.shown]


def test_an_interruption_tells_what_was_read(mix: Mix) -> None:
    def interrupted(row: PlmRow, root: Path, where: str) -> TrainingSample:
        if "texts" in where:
            raise KeyboardInterrupt
        return MAKE(row, root, where)

    report = check_mix(mix, interrupted, num_tokens=400).report
    assert not report.is_complete
    assert [(item.num_read, item.num_rows) for item in report.row_sets] == [(5, 5), (0, 2), (0, 1)]
    assert report.num_skipped == 3


def test_samples_for_people_are_spread_evenly() -> None:
    assert sorted(spread(3, 9)) == [0, 3, 6]
    assert sorted(spread(5, 3)) == [0, 1, 2]
    assert spread(4, 0) == spread(0, 4) == frozenset()


@pytest.mark.parametrize("reader", [rows_table, lambda report: errors_table(report.row_sets)])
def test_tables_have_a_cell_for_every_column(mix: Mix, reader: Callable[[MixReport], TextTable]) -> None:
    table = reader(check_mix(mix, MAKE, num_tokens=400).report)
    assert {len(line) for line in table.lines} == {len(table.columns)}
