"""The decoding threads: order, errors as values, bounded work ahead, a clean end."""

from __future__ import annotations

import itertools
import threading
from pathlib import Path

import pytest

from perceptic.errors import ConfigError, MediaError
from perceptic.media.collection import MediaFile
from perceptic.media.prefetch import Decoded, Failure, decode_stream


def _file(number: int) -> MediaFile:
    return MediaFile(Path(f"{number}.jpg"), "image")


def _number(file: MediaFile) -> int:
    return int(file.path.stem)


FILES = [_file(number) for number in range(50)]


def test_results_keep_the_order_of_the_files() -> None:
    results = list(decode_stream(FILES, _number, workers=4))
    assert [result.file for result in results] == FILES
    assert [result.value for result in results if isinstance(result, Decoded)] == list(range(50))


def test_bad_files_become_failures_in_their_place() -> None:
    def decode(file: MediaFile) -> int:
        if _number(file) % 3 == 0:
            raise MediaError(file.path, "is bad")
        return _number(file)

    results = list(decode_stream(FILES, decode, workers=3))
    assert [isinstance(result, Failure) for result in results] == [number % 3 == 0 for number in range(50)]
    first = results[0]
    assert isinstance(first, Failure)
    assert first.error.reason == "is bad"


def test_other_errors_end_the_stream() -> None:
    def decode(file: MediaFile) -> int:
        return 1 // (_number(file) - 5)

    with pytest.raises(ZeroDivisionError):
        list(decode_stream(FILES, decode, workers=2))


def test_unordered_results_do_not_wait_for_a_slow_file() -> None:
    release = threading.Event()

    def decode(file: MediaFile) -> int:
        if _number(file) == 0:
            release.wait()
        return _number(file)

    stream = decode_stream(FILES[:6], decode, workers=2, ordered=False)
    first_five = [next(stream).file for _ in range(5)]
    release.set()
    assert sorted(_number(file) for file in first_five) == [1, 2, 3, 4, 5]
    assert _number(next(stream).file) == 0
    assert next(stream, None) is None


def test_work_ahead_is_bounded_even_on_endless_input() -> None:
    started: list[int] = []

    def decode(file: MediaFile) -> int:
        started.append(_number(file))
        return _number(file)

    stream = decode_stream((_file(number) for number in itertools.count()), decode, workers=2, ahead=6)
    for expected in range(10):
        assert _number(next(stream).file) == expected
    stream.close()
    assert len(started) <= 10 + 6


def test_files_are_decoded_at_the_same_time() -> None:
    barrier = threading.Barrier(3)

    def decode(file: MediaFile) -> int:
        barrier.wait(timeout=30)  # breaks unless three are in work at once
        return _number(file)

    assert len(list(decode_stream(FILES[:6], decode, workers=3))) == 6


def test_impossible_settings_are_refused() -> None:
    for settings in ({"workers": 0}, {"workers": 4, "ahead": 3}):
        with pytest.raises(ConfigError, match="workers="):
            decode_stream(FILES, _number, **settings)
