"""Checkpoints are complete or absent, and the newest readable one is found."""

import pytest
import torch

from perceptic.errors import TrainError
from perceptic.train.checkpoint import CheckpointFolder, TrainState


def state(step):
    return TrainState(
        step, {"w": torch.full((2,), float(step))}, {"state": {}, "param_groups": []}, torch.get_rng_state()
    )


def test_round_trip_and_keep_last(tmp_path):
    folder = CheckpointFolder(tmp_path / "checkpoints", keep=2)
    for step in (1, 2, 30):
        folder.save(state(step))
    assert [path.name for path in folder.paths()] == ["step-0000002.pt", "step-0000030.pt"]
    found = folder.newest()
    assert found.warnings == ()
    assert found.state.step == 30
    assert torch.equal(found.state.model["w"], torch.full((2,), 30.0))
    assert torch.equal(found.state.random_state, torch.get_rng_state())


@pytest.mark.parametrize("damage", ["truncated", "empty", "foreign"])
def test_a_damaged_newest_falls_back_to_the_one_before_and_says_so(tmp_path, damage):
    folder = CheckpointFolder(tmp_path)
    folder.save(state(1))
    newest = folder.save(state(2))
    if damage == "foreign":
        torch.save({"weights": torch.zeros(1)}, newest)
    else:
        newest.write_bytes(newest.read_bytes()[: 0 if damage == "empty" else 500])
    found = folder.newest()
    assert found.state.step == 1
    assert len(found.warnings) == 1
    assert str(newest) in found.warnings[0]


def test_nothing_readable_is_an_error_and_nothing_at_all_a_fresh_start(tmp_path):
    folder = CheckpointFolder(tmp_path)
    assert folder.newest().state is None
    folder.save(state(1)).write_bytes(b"not a checkpoint")
    with pytest.raises(TrainError, match="--fresh"):
        folder.newest()


def test_an_unfinished_write_is_not_a_checkpoint(tmp_path):
    (tmp_path / ".step-0000009.part-abc.pt").write_bytes(b"half")
    assert CheckpointFolder(tmp_path).paths() == []
