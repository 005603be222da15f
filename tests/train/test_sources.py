"""Batches made ahead of time come in order, and positions are those of what was handed out."""

from __future__ import annotations

import threading

import pytest

from perceptic.train.sources import AheadOfTime


class Counting:
    """A stream of the numbers from 0; `made` counts those it was asked for."""

    def __init__(self, fails_at=None):
        self.number, self.made, self.fails_at = 0, 0, fails_at

    def next(self):
        if self.number == self.fails_at:
            raise ValueError("no more")
        self.number += 1
        self.made += 1
        return self.number - 1

    def state(self):
        return {"number": self.number}

    def restore(self, state):
        self.number = state["number"]


@pytest.mark.parametrize("depth", [0, 1, 4])
def test_order_and_position_do_not_depend_on_the_depth(depth):
    ahead = AheadOfTime(Counting(), depth)
    assert ahead.state() == {"number": 0}
    for number in range(5):
        assert ahead.next() == number
        assert ahead.state() == {"number": number + 1}
    ahead.close()


def test_so_many_are_made_ahead_and_again_after_a_resume():
    stream = Counting()
    ahead = AheadOfTime(stream, 3)
    assert ahead.next() == 0
    position = ahead.state()
    ahead.close()
    assert 1 <= stream.made <= 4
    again = AheadOfTime(stream, 3)
    again.restore(position)
    assert [again.next() for _ in range(4)] == [1, 2, 3, 4]
    again.restore(position)
    assert again.next() == 1
    again.close()


def test_what_the_stream_raises_comes_where_its_batch_would():
    ahead = AheadOfTime(Counting(fails_at=2), 2)
    assert [ahead.next(), ahead.next()] == [0, 1]
    with pytest.raises(ValueError, match="no more"):
        ahead.next()
    ahead.close()


def test_closing_ends_the_thread():
    before = threading.active_count()
    ahead = AheadOfTime(Counting(), 1)
    ahead.next()
    ahead.close()
    assert threading.active_count() == before
