"""The Hugging Face folder we write loads in transformers and gives the same logits, prompts and answers."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from perceptic.media.chunks import ChunkTransform
from perceptic.text.templates import Message, Picture, chat_prompt, encode_fragments, render
from perceptic.weights.plm_pretrained import PLMBundle, load_plm

pytestmark = [pytest.mark.parity, pytest.mark.filterwarnings("ignore")]
transformers = pytest.importorskip("transformers")

NAMES = ["tied_scaled", "untied_unscaled", "untied_scaled_oddgrid", "tied_unscaled_pool1"]


def write_folder(goldens: Path, folder: Path, name: str) -> PLMBundle:
    original = folder / "original"
    original.mkdir()
    for file in ("params.json", "consolidated.pth"):
        shutil.copy(goldens / "plm" / name / file, original)
    shutil.copy(goldens / "plm" / "tokenizer" / "tokenizer.model", original)
    bundle = load_plm(original, dtype="float32")
    bundle.model.save_pretrained(folder / "hf", form="huggingface")
    return bundle


@pytest.mark.parametrize("name", NAMES)
def test_logits(goldens: Path, tmp_path: Path, name: str) -> None:
    bundle = write_folder(goldens, tmp_path, name)
    theirs, report = transformers.PerceptionLMForConditionalGeneration.from_pretrained(
        tmp_path / "hf", dtype=torch.float32, output_loading_info=True
    )
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    given = load_file(goldens / "plm" / name / "inputs.safetensors")
    messages = [Message("user", (Picture(3), "Describe the image."))]
    ids = torch.tensor([encode_fragments(bundle.tokenizer, chat_prompt(messages, bundle.model.tokens_per_chunk))])
    pixels = given["gen.images"]
    with torch.inference_mode():
        for token_ids in (given["text_short.ids"], given["text_long.ids"]):
            torch.testing.assert_close(bundle.model(token_ids), theirs(input_ids=token_ids).logits, atol=2e-4, rtol=0)
        with_pictures = theirs(input_ids=ids, pixel_values=pixels[None]).logits
        torch.testing.assert_close(bundle.model(ids, pixels), with_pictures, atol=2e-4, rtol=0)


def test_processor(goldens: Path, tmp_path: Path) -> None:
    bundle = write_folder(goldens, tmp_path, "tied_scaled")
    processor = transformers.AutoProcessor.from_pretrained(tmp_path / "hf")
    image = Image.open(goldens / "media" / "cat.png").convert("RGB")
    turns = [
        {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "What is it?"}]},
        {"role": "assistant", "content": [{"type": "text", "text": "A cat."}]},
        {"role": "user", "content": [{"type": "text", "text": "What color?"}]},
    ]
    messages = [
        Message("user", (Picture(1), "What is it?")),
        Message.text("assistant", "A cat."),
        Message.text("user", "What color?"),
    ]
    prompt = processor.apply_chat_template(turns, add_generation_prompt=True)
    assert prompt == render(chat_prompt(messages, tokens_per_chunk=1))
    inputs = processor(text=prompt, images=image, return_tensors="pt", add_special_tokens=False)
    chunks = ChunkTransform(bundle.preprocessing)(image)
    tiled = [Message("user", (Picture(len(chunks)), "What is it?")), *messages[1:]]
    wanted = encode_fragments(bundle.tokenizer, chat_prompt(tiled, bundle.model.tokens_per_chunk))
    assert inputs["input_ids"][0].tolist() == wanted
    # They resize tensors, we resize as Pillow does: one grey level apart.
    assert inputs["pixel_values"][0].shape == chunks.shape
    assert (inputs["pixel_values"][0] - chunks).abs().max() < 1.01 / 127.5
