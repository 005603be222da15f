"""PLM-Nano's vocabulary: the bundled file fits the model and its world, and is made the same way every time."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import perceptic
from perceptic.configs_plm import plm_config
from perceptic.data.nano_tokenizer import corpus, main, nano_tokenizer
from perceptic.errors import TextError
from perceptic.text.llama_tokenizer import LlamaTokenizer
from perceptic.text.rank_bpe_training import train_rank_bpe
from perceptic.text.templates import SYSTEM_PROMPT
from perceptic.weights.plm_pretrained import check_tokenizer

BUNDLED = Path(perceptic.__file__).parent / "assets" / "plm-nano" / "tokenizer.model"


@pytest.fixture(scope="module")
def tokenizer() -> LlamaTokenizer:
    return LlamaTokenizer.from_file(BUNDLED)


def test_fits_the_model(tokenizer: LlamaTokenizer) -> None:
    config = plm_config("PLM-Nano")
    check_tokenizer(tokenizer, config)
    assert tokenizer.vocab_size == config.decoder.vocab_size
    assert BUNDLED.stat().st_size < 50_000


def test_the_system_prompt_is_whole_words(tokenizer: LlamaTokenizer) -> None:
    assert len(tokenizer.encode(SYSTEM_PROMPT)) == len(SYSTEM_PROMPT.split()) + 3  # a comma and two full stops


def test_words_of_unseen_scenes_are_few_tokens(tokenizer: LlamaTokenizer) -> None:
    texts = [text for text in corpus(0, 0) if text != SYSTEM_PROMPT]
    told = [*corpus(20, 4)][len(texts) :]
    tokens = sum(len(tokenizer.encode(text)) for text in told)
    assert tokens < 1.6 * sum(len(text.split()) for text in told)


def test_a_rebuild_is_the_same_in_any_process() -> None:
    code = (
        "from perceptic.data.nano_tokenizer import corpus\n"
        "from perceptic.text.rank_bpe_training import train_rank_bpe\n"
        "import hashlib\n"
        "print(hashlib.sha256(b'|'.join(train_rank_bpe(corpus(30, 5), 900).vocabulary.tokens)).hexdigest())\n"
    )
    digests = {
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120).stdout
        for _ in range(2)
    }
    assert len(digests) == 1
    assert train_rank_bpe(corpus(30, 5), 900).vocab_size == 900


def test_too_small_a_corpus_is_refused() -> None:
    with pytest.raises(TextError, match="the corpus supports a vocabulary of at most"):
        nano_tokenizer(num_scenes=2, num_clips=1)


def test_the_program_asks_for_one_file() -> None:
    with pytest.raises(SystemExit, match="usage"):
        main([])


@pytest.mark.slow
def test_the_bundled_file_can_be_made_again(tmp_path: Path) -> None:
    main([str(tmp_path / "tokenizer.model")])
    assert (tmp_path / "tokenizer.model").read_bytes() == BUNDLED.read_bytes()
