"""Judges: the endpoint against a real server that misbehaves in every way, the others by what they reply."""

from __future__ import annotations

import email.utils
import importlib.util
import json
import os
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from perceptic import metrics
from perceptic.errors import ConfigError, NetworkError, OutputError
from perceptic.evaluate.judge import JudgeFacts, JudgePrompt, ask_judge, open_judge
from perceptic.evaluate.judge_endpoint import EndpointJudge
from perceptic.evaluate.judge_local import LexicalJudge
from perceptic.evaluate.judge_prompts import score_prompt, verdict_prompt
from perceptic.evaluate.reply_store import content_key, open_replies

_SPEC = importlib.util.spec_from_file_location("judge_server", Path(__file__).with_name("judge_server.py"))
assert _SPEC is not None
assert _SPEC.loader is not None
_server = importlib.util.module_from_spec(_SPEC)
sys.modules.setdefault("judge_server", _server)
_SPEC.loader.exec_module(_server)
Canned, JudgeServer, said = _server.Canned, _server.JudgeServer, _server.said

PROMPT = verdict_prompt("What colour is it?", "red", "crimson")


@pytest.fixture
def server() -> Iterator[Any]:
    with _server.judge_server() as state:
        yield state


@pytest.fixture
def waits() -> list[float]:
    return []


@pytest.fixture
def judge(server: Any, waits: list[float]) -> EndpointJudge:
    return EndpointJudge(server.url, "tester-70b", key="secret-key", timeout_seconds=5, sleep=waits.append)


def prompts(number: int) -> list[JudgePrompt]:
    return [score_prompt(f"caption {index}", "a caption") for index in range(number)]


class TestEndpoint:
    def test_what_is_sent(self, server: Any, judge: EndpointJudge) -> None:
        assert judge.reply(PROMPT) == '{"pred": "yes", "score": 5}'
        assert server.paths == ["/v1/chat/completions"]
        assert server.headers[0]["Authorization"] == "Bearer secret-key"
        (request,) = server.requests
        assert request["model"] == "tester-70b"
        assert (request["temperature"], request["max_tokens"]) == (0, 256)
        assert [message["role"] for message in request["messages"]] == ["system", "user"]
        assert "crimson" in request["messages"][1]["content"]

    def test_retries_with_growing_pauses_and_then_answers(
        self, server: Any, judge: EndpointJudge, waits: list[float]
    ) -> None:
        server.queue += [Canned(429), Canned(503, b"overloaded"), Canned(500)]
        assert judge.reply(PROMPT) == '{"pred": "yes", "score": 5}'
        assert waits == [1, 2, 4]

    def test_retry_after_is_obeyed_in_seconds_and_as_a_date(
        self, server: Any, judge: EndpointJudge, waits: list[float]
    ) -> None:
        date = email.utils.formatdate(time.time() + 60, usegmt=True)
        server.queue += [
            Canned(429, headers={"Retry-After": "7.5"}),
            Canned(429, headers={"Retry-After": date}),
            Canned(429, headers={"Retry-After": "soon"}),
            Canned(429, headers={"Retry-After": "99999"}),
        ]
        judge.reply(PROMPT)
        assert waits[0] == 7.5
        assert 50 < waits[1] <= 60
        assert waits[2:] == [4, 120]

    def test_gives_up_after_six_tries(self, server: Any, judge: EndpointJudge, waits: list[float]) -> None:
        server.default = Canned(503, b"still loading")
        with pytest.raises(NetworkError, match=r"status 503: still loading \(6 tries\)"):
            judge.reply(PROMPT)
        assert len(server.requests) == 6
        assert waits == [1, 2, 4, 8, 16]

    @pytest.mark.parametrize(
        "body",
        [
            b"<html>Bad gateway</html>",
            b"",
            b"{",
            b"[]",
            b'{"choices": []}',
            b'{"choices": [{"message": {}}]}',
            b'{"choices": [{"message": {"content": 7}}]}',
            b"\xff\xfe",
        ],
    )
    def test_bodies_that_are_not_the_protocol_are_tried_again(
        self, server: Any, judge: EndpointJudge, body: bytes
    ) -> None:
        server.queue.append(Canned(body=body))
        assert judge.reply(PROMPT) == '{"pred": "yes", "score": 5}'
        server.default = Canned(body=body)
        with pytest.raises(NetworkError, match=r"6 tries"):
            judge.reply(PROMPT)

    def test_a_dropped_connection_and_a_slow_server_are_tried_again(self, server: Any, waits: list[float]) -> None:
        judge = EndpointJudge(server.url, "m", timeout_seconds=0.2, sleep=waits.append)
        server.queue += [Canned(drop=True), Canned(delay_seconds=0.6)]
        assert judge.reply(PROMPT) == '{"pred": "yes", "score": 5}'
        assert len(waits) == 2

    def test_nobody_there(self, waits: list[float]) -> None:
        judge = EndpointJudge("http://127.0.0.1:9/v1", "m", timeout_seconds=1, sleep=waits.append)
        with pytest.raises(NetworkError, match=r"127.0.0.1:9/v1: no answer"):
            judge.reply(PROMPT)

    def test_a_missing_or_wrong_key_is_said_at_once_and_never_shown(self, server: Any, judge: EndpointJudge) -> None:
        server.default = Canned(401, b"no key secret-key")
        with pytest.raises(ConfigError, match=r"refused the key .*PERCEPTIC_JUDGE_KEY") as caught:
            judge.reply(PROMPT)
        with pytest.raises(ConfigError, match="wants a key"):
            EndpointJudge(server.url, "m").reply(PROMPT)
        assert len(server.requests) == 2
        assert "Authorization" not in server.headers[1]
        assert "secret-key" not in f"{caught.value} {judge!r} {judge.facts}"

    def test_an_unknown_model_is_said_at_once(self, server: Any, judge: EndpointJudge) -> None:
        server.default = Canned(404, b'{"error": "model tester-70b does not exist"}')
        with pytest.raises(ConfigError, match=r"model tester-70b: status 404: .*does not exist"):
            judge.reply(PROMPT)
        assert len(server.requests) == 1

    def test_an_empty_reply_is_a_reply(self, server: Any, judge: EndpointJudge) -> None:
        server.queue += [said(None), said("")]
        assert [judge.reply(PROMPT), judge.reply(PROMPT)] == ["", ""]
        assert not metrics.parse_verdict("").is_correct

    @pytest.mark.parametrize(
        ("content", "score", "failure"),
        [
            ('{"score": 7, "explanation": "x"}', 0.7, None),
            ('```json\n{"score": 9}\n```', 0.0, "not JSON"),
            ('{"score": "nine"}', 0.0, "score is no number"),
            ('{"points": 3}', 0.0, "JSON without score"),
            ("I think it is fine.", 0.0, "not JSON"),
        ],
    )
    def test_wrong_scores_count_as_nothing_and_say_so(
        self, server: Any, judge: EndpointJudge, content: str, score: float, failure: str | None
    ) -> None:
        server.default = said(content)
        assert metrics.parse_score(judge.reply(PROMPT)) == metrics.JudgedScore(score, failure)

    def test_many_at_once_come_back_in_order(self, server: Any, judge: EndpointJudge) -> None:
        server.default = Canned(body=said("ok").body, delay_seconds=0.05)
        assert ask_judge(judge, prompts(24)) == ["ok"] * 24
        assert 1 < server.most_at_once <= judge.concurrency

    @pytest.mark.parametrize("url", ["ftp://x/v1", "localhost:8000", "http://", "http://user:pw@host/v1"])
    def test_addresses_that_cannot_be(self, url: str) -> None:
        with pytest.raises(ConfigError):
            EndpointJudge(url, "m")


class TestAsking:
    def test_equal_questions_are_asked_once_and_a_second_run_asks_nothing(
        self, server: Any, judge: EndpointJudge, tmp_path: Path
    ) -> None:
        file = tmp_path / "judge" / "replies.jsonl"
        for expected in (3, 3):
            with open_replies(file) as store:
                assert len(ask_judge(judge, [*prompts(3), *prompts(2)], store)) == 5
            assert len(server.requests) == expected

    def test_what_was_said_before_a_failure_is_kept(self, server: Any, tmp_path: Path, waits: list[float]) -> None:
        judge = EndpointJudge(server.url, "m", concurrency=1, pauses=(), sleep=waits.append)
        server.queue += [said("one"), said("two"), Canned(500)]
        file = tmp_path / "replies.jsonl"
        with open_replies(file) as store, pytest.raises(NetworkError, match="Replies so far are kept"):
            ask_judge(judge, prompts(6), store)
        assert len(server.requests) == 3
        server.default = said("later")
        with open_replies(file) as store:
            assert ask_judge(judge, prompts(6), store) == ["one", "two", "later", "later", "later", "later"]
        assert len(server.requests) == 7

    def test_another_judge_is_asked_anew(self, server: Any, judge: EndpointJudge, tmp_path: Path) -> None:
        with open_replies(tmp_path / "replies.jsonl") as store:
            ask_judge(judge, [PROMPT], store)
            ask_judge(EndpointJudge(server.url, "other"), [PROMPT], store)
        assert len(server.requests) == 2

    def test_progress(self) -> None:
        seen: list[tuple[int, int]] = []
        ask_judge(LexicalJudge(), prompts(3), on_reply=lambda done, total: seen.append((done, total)))
        assert seen == [(1, 3), (2, 3), (3, 3)]


class TestStore:
    def test_a_line_that_was_cut_is_dropped_and_the_rest_stays(self, tmp_path: Path) -> None:
        file = tmp_path / "replies.jsonl"
        with open_replies(file) as store:
            store.put("a", "one")
            store.put("b", "zwei ü\nlines", item=3)
        whole = file.read_bytes()
        for cut in range(len(whole)):
            file.write_bytes(whole[:cut])
            with open_replies(file) as store:
                store.put("c", "new")
            with open_replies(file) as store:
                assert store.get("c") == "new"
                assert store.num_damaged == 0

    def test_damaged_lines_are_counted(self, tmp_path: Path) -> None:
        file = tmp_path / "replies.jsonl"
        file.write_text('{"key": "a", "text": "x"}\nnonsense\n[1]\n')
        with open_replies(file) as store:
            assert (store.get("a"), store.num_damaged) == ("x", 2)

    def test_two_writers_and_no_permission(self, tmp_path: Path) -> None:
        file = tmp_path / "replies.jsonl"
        with open_replies(file), pytest.raises(OutputError, match="another process"), open_replies(file):
            pass
        (tmp_path / "file").write_text("")
        with pytest.raises(OutputError), open_replies(tmp_path / "file" / "replies.jsonl"):
            pass

    def test_keys(self) -> None:
        assert content_key({"a": 1, "b": [2]}) == content_key({"b": [2], "a": 1})
        assert content_key("\ud800") != content_key("")


class TestOthers:
    def test_lexical_replies_are_read_by_the_metrics(self) -> None:
        same, other = verdict_prompt("?", "a red star", "A red star."), verdict_prompt("?", "nothing", "a red star")
        replies = ask_judge(LexicalJudge(), [same, other])
        assert [metrics.parse_verdict(reply).is_correct for reply in replies] == [True, False]
        (reply,) = ask_judge(LexicalJudge(), [score_prompt("a b", "b c d")])
        assert metrics.parse_score(reply, needs_explanation=True).score == pytest.approx(0.4)
        assert not LexicalJudge().facts.is_comparable

    def test_a_local_model_judges(self, goldens: Path, tmp_path: Path) -> None:
        import shutil

        for name in ("tied_scaled/params.json", "tied_scaled/consolidated.pth", "tokenizer/tokenizer.model"):
            shutil.copy(goldens / "plm" / name, tmp_path)
        judge = open_judge(f"local:{tmp_path}", device="cpu")
        assert (judge.facts.kind, judge.facts.is_comparable) == ("local", False)
        short = JudgePrompt("Judge.", "Is it right?", "a", "b", "verdict")
        # Random weights say anything at all; what counts is that two texts of chat go in and text comes out.
        replies = ask_judge(judge, [short, short])
        assert replies[0] == replies[1]
        assert isinstance(replies[0], str)

    def test_by_name(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in list(os.environ):
            if name.startswith("PERCEPTIC_JUDGE"):
                monkeypatch.delenv(name)
        assert isinstance(open_judge("lexical"), LexicalJudge)
        with pytest.raises(ConfigError, match="give the address"):
            open_judge("")
        with pytest.raises(ConfigError, match="give the address"):
            open_judge("gpt")
        with pytest.raises(ConfigError, match="name its model"):
            open_judge("http://localhost:1/v1")
        monkeypatch.setenv("PERCEPTIC_JUDGE_URL", "http://localhost:1/v1")
        monkeypatch.setenv("PERCEPTIC_JUDGE_MODEL", "m")
        monkeypatch.setenv("PERCEPTIC_JUDGE_KEY", "k")
        judge = open_judge("")
        assert isinstance(judge, EndpointJudge)
        assert (judge.url, judge.model, judge.key) == ("http://localhost:1/v1", "m", "k")

    def test_texts_with_braces_go_in_as_they_are(self) -> None:
        prompt = score_prompt("{predicted} {0}", '{"a": 1}')
        assert "{predicted} {0}" in prompt.user
        assert '{"a": 1}' in prompt.user
        shown = prompt.user.rsplit("of the form ", 1)[1]
        assert '{"score":' in shown
        assert json.loads(verdict_prompt("?", "a", "b").user.rsplit("For example: ", 1)[1])["pred"] == "yes"


def test_a_judge_of_ones_own_is_a_judge() -> None:
    class Harsh:
        facts = JudgeFacts("own", "harsh", False)

        def replies(self, prompts: Sequence[JudgePrompt]) -> Iterator[tuple[int, str]]:
            yield from ((number, "no") for number in reversed(range(len(prompts))))

    assert ask_judge(Harsh(), prompts(3)) == ["no"] * 3


def test_a_judge_that_leaves_prompts_out_is_told_so() -> None:
    class Lazy:
        facts = JudgeFacts("own", "lazy", False)

        def replies(self, prompts: Sequence[JudgePrompt]) -> Iterator[tuple[int, str]]:
            yield 0, "yes"

    with pytest.raises(ConfigError, match="judge lazy: replied to 1 of 3 prompts"):
        ask_judge(Lazy(), prompts(3))
