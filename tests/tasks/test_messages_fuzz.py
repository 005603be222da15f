"""Damaged conversations and damaged media: an answer can be prepared, or a typed error says why not."""

from __future__ import annotations

import base64
import copy
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from perceptic.errors import PercepticError
from perceptic.inference.sampling import GenerationOptions
from perceptic.tasks.assistant import Assistant
from perceptic.tasks.messages import parse_messages
from perceptic.tasks.seeing import Seeing

Json = Any
JUNK: list[Json] = [
    *(None, True, False, 0, -1, 1, 3.5, 10**400, -(10**400), float("nan"), float("inf"), 1e308),
    *(
        "",
        "x",
        "user",
        "system",
        "\ud800",
        "\0",
        "<|image|>",
        "<image>",
        "a" * 5000,
        "data:",
        "data:,",
        "//[",
        "http://[",
    ),
    *("/dev/null", "/dev/zero", "/proc/self/mem", ".", "..", "~", "~nobody", "file:", "file://", "file:///%00", "%zz"),
    *("data:image/png;base64,AAAA", "data:video/mp4;base64,AAAA", "data:image/png;base64,\n=", "data:;;;,%"),
    *(
        [],
        {},
        [[]],
        [{}],
        {"": ""},
        {"url": None},
        {"type": "text"},
        {"role": "user", "content": []},
        b"bytes",
        (),
        {1: 2},
    ),
    *([0, 0, 1, 1], [1, 1, 0, 0], {"0": None}, {"0": [0, 0, 5, 5]}, {"x": 1}, [float("nan")] * 4, [1e308] * 4),
]
KEYS = ["role", "content", "type", "text", "image_url", "video_url", "url", "detail", "max_num_tiles", "num_frames"]
KEYS += ["start_seconds", "end_seconds", "box", "box_map", "name", "tool_calls", "", "unknown"]


class Damage:
    """Valid conversations, and ways to break them. One seed, one case."""

    def __init__(self, goldens: Path, folder: Path, seed: int) -> None:
        self.random = random.Random(seed)
        self.media = goldens / "media"
        self.folder = folder

    def conversation(self) -> Json:
        messages: list[Json] = []
        if self.random.random() < 0.3:
            messages.append({"role": "system", "content": "Be brief."})
        for turn in range(self.random.randint(1, 3)):
            if turn:
                messages.append({"role": "assistant", "content": "Yes."})
            parts = [self.part() for _ in range(self.random.randint(1, 3))]
            messages.append({"role": "user", "content": parts if self.random.random() < 0.8 else "What?"})
        for _ in range(self.random.choice([0, 0, 0, 0, 1, 1, 2, 5])):
            messages = self.mutated(messages)
        return messages

    def part(self) -> Json:
        kind = self.random.choice(["text", "image", "image", "video"])
        if kind == "text":
            return {"type": "text", "text": self.random.choice(["What?", "<|image|>", "", "\ud800 <|eot_id|>"])}
        fields: dict[str, Json] = {"url": self.address(kind)}
        if kind == "video" and self.random.random() < 0.5:
            fields |= {"num_frames": self.random.randint(1, 5), "start_seconds": self.random.uniform(0, 6)}
        if self.random.random() < 0.3:
            left, top = self.random.randint(-9, 99), self.random.randint(-9, 99)
            fields["box"] = [left, top, left + self.random.randint(-2, 99), top + self.random.randint(-2, 99)]
        return {"type": f"{kind}_url", f"{kind}_url": fields}

    def address(self, kind: str) -> str:
        images, videos = ["cat.png", "mode_1.png", "mode_p.png", "ocrbench_centre.jpg"], ["dog.mp4"]
        wanted = images if kind == "image" else videos
        name = self.random.choice(wanted if self.random.random() < 0.95 else [*images, *videos])
        content = self.damaged((self.media / name).read_bytes())
        mime = self.random.choice(["image/png", "video/mp4", "application/octet-stream"])
        if self.random.random() < 0.3 and len(content) < 100_000:
            return f"data:{mime};base64," + base64.b64encode(content).decode()
        path = self.folder / name
        path.write_bytes(content)
        return path.as_uri() if self.random.random() < 0.3 else str(path)

    def damaged(self, content: bytes) -> bytes:
        way = self.random.random()
        if way < 0.5:
            return content
        if way < 0.65:
            return content[: self.random.randrange(len(content))]
        changed = bytearray(content)
        for _ in range(self.random.randint(1, 30)):
            # Headers decide more than pixels do.
            limit = self.random.choice([64, 1024, len(changed)])
            changed[self.random.randrange(min(limit, len(changed)))] = self.random.randrange(256)
        return bytes(changed)

    def mutated(self, messages: Json) -> Json:
        messages = copy.deepcopy(messages)
        places: list[Callable[[Json], None]] = []
        self._collect(messages, places)
        if not places or self.random.random() < 0.02:
            return self.random.choice(JUNK)
        self.random.choice(places)(self.random.choice(JUNK))
        return messages

    def _collect(self, node: Json, places: list[Callable[[Json], None]]) -> None:
        """Everything that can be done to any node: set, remove, repeat, add."""
        if isinstance(node, list):
            for index, inner in enumerate(node):
                places.append(lambda junk, index=index: node.__setitem__(index, junk))
                self._collect(inner, places)
            places.append(node.append)
            places.append(lambda _: node.insert(0, copy.deepcopy(node[-1])) if node else None)
            places.append(lambda _: node.pop() if node else None)
        elif isinstance(node, dict):
            for key, inner in list(node.items()):
                places.append(lambda junk, key=key: node.__setitem__(key, junk))
                places.append(lambda _, key=key: node.pop(key, None))
                self._collect(inner, places)
            places.append(lambda junk: node.__setitem__(self.random.choice(KEYS), junk))


def check(assistant: Assistant, goldens: Path, folder: Path, seeds: range) -> dict[str, int]:
    outcomes: dict[str, int] = {}
    for seed in seeds:
        damage = Damage(goldens, folder, seed)
        messages = damage.conversation()
        seeing = damage.random.choice([Seeing(), Seeing(beyond_training=True), Seeing(max_num_tiles=1, num_frames=1)])
        refused: PercepticError | None = None
        try:
            prepared = assistant.prepare(parse_messages(messages), seeing, encode=False)
            if seed % 10 == 0:
                assistant.generate(prepared, options=GenerationOptions(max_new_tokens=2))
        except PercepticError as error:
            refused = error
        assert refused is None or 0 < len(str(refused)) < 3000
        outcome = "prepared" if refused is None else type(refused).__name__
        outcomes[outcome] = outcomes.get(outcome, 0) + 1
    return outcomes


def test_two_hundred(assistant: Assistant, goldens: Path, tmp_path: Path) -> None:
    outcomes = check(assistant, goldens, tmp_path, range(200))
    assert sum(outcomes.values()) == 200
    assert {"prepared", "TextError", "MediaError", "ConfigError"} <= set(outcomes)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_two_thousand(assistant: Assistant, goldens: Path, tmp_path: Path) -> None:
    outcomes = check(assistant, goldens, tmp_path, range(1000, 3000))
    assert sum(outcomes.values()) == 2000
    assert min(outcomes[name] for name in ("prepared", "TextError", "MediaError", "ConfigError")) > 100
