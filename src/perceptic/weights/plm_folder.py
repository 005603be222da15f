"""PerceptionLM as a folder in three formats: the original's, Hugging Face's and ours.

Original: `params.json`, `consolidated*.pth`, `tokenizer.model`. Hugging Face: `config.json`, `model*.safetensors`,
`tokenizer.json` and processor files. Ours: `config.json` ("format": "perceptic"), `model*.safetensors`,
`preprocessing.json`, `tokenizer.model`, `README.md`. Folders are written whole or not at all.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from perceptic.configs_plm import PerceptionLMConfig, PerceptionLMPreprocessing
from perceptic.errors import ConfigError, WeightsError, WeightsNotFoundError
from perceptic.models.quantized import Quantization
from perceptic.text.llama_tokenizer import RANK_FILE, TOKENIZER_JSON, LlamaTokenizer
from perceptic.text.templates import SYSTEM_PROMPT
from perceptic.weights import plm_huggingface_config, plm_original_config
from perceptic.weights.folder import (
    CARD_FILE,
    CONFIG_FILE,
    PREPROCESSING_FILE,
    WEIGHTS_FILE,
    atomic_folder,
    read_json,
    write_json,
)
from perceptic.weights.names import Pair, pair
from perceptic.weights.plm_names import from_ours, huggingface_pairs, original_pairs
from perceptic.weights.plm_quantized import read_quantization, with_quantized_names, write_quantization
from perceptic.weights.shards import INDEX_FILE, find_shards, write_shards

PLMFormat = Literal["perceptic", "original", "huggingface"]

PARAMS_FILE = "params.json"
CONSOLIDATED = "consolidated"
MODEL_TYPE = "perception_lm"
PROCESSOR_FILE = "processor_config.json"
IMAGE_PROCESSOR_FILE = "preprocessor_config.json"
VIDEO_PROCESSOR_FILE = "video_preprocessor_config.json"

_ORIGINAL_DTYPES = {torch.bfloat16: "bf16", torch.float16: "fp16"}
_FORMAT_VERSION = 1
_REPLACEABLE = (
    *(CONFIG_FILE, WEIGHTS_FILE, INDEX_FILE, PREPROCESSING_FILE, CARD_FILE, RANK_FILE, TOKENIZER_JSON),
    *(PARAMS_FILE, "consolidated.pth", PROCESSOR_FILE, IMAGE_PROCESSOR_FILE, VIDEO_PROCESSOR_FILE),
    *("generation_config.json", "tokenizer_config.json", "chat_template.jinja"),
)

# As the released folders render a conversation; user text is trimmed there.
_CHAT_TEMPLATE = (
    "{{ bos_token }}"
    "{% if messages and messages[0]['role'] == 'system' %}"
    "{% set system = messages[0]['content'] | trim %}{% set turns = messages[1:] %}"
    "{% else %}{% set system = '" + SYSTEM_PROMPT + "' %}{% set turns = messages %}{% endif %}"
    "{{ '<|start_header_id|>system<|end_header_id|>\\n\\n' + system + '<|eot_id|>' }}"
    "{% for message in turns %}"
    "{{ '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n' }}"
    "{% if message['content'] is string %}{{ message['content'] | trim }}{% else %}"
    "{% for part in message['content'] if part['type'] == 'image' %}{{ '<|image|>' }}{% endfor %}"
    "{% for part in message['content'] if part['type'] == 'video' %}{{ '<|video|>' }}{% endfor %}"
    "{% for part in message['content'] if part['type'] == 'text' %}{{ part['text'] | trim }}{% endfor %}"
    "{% endif %}{{ '<|eot_id|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{% endif %}"
)


@dataclass(frozen=True)
class PLMFolder:
    """What a PerceptionLM folder says.

    Attributes:
        pairs: its weight names.
        tokenizer: None where it has no file.
        quantization: how the decoder's matrices are stored; None: as floats.
    """

    path: Path
    form: PLMFormat
    weights: tuple[Path, ...]
    config: PerceptionLMConfig
    preprocessing: PerceptionLMPreprocessing
    pairs: tuple[Pair, ...]
    tokenizer: Path | None
    quantization: Quantization | None = None


def read_plm_folder(path: Path) -> PLMFolder:
    """Find out which format a folder is in and read all but its weights.

    A hub repository with the original's files in a sub-folder `original` is understood too.

    Raises:
        WeightsNotFoundError: no PerceptionLM in it, or its weights are missing.
        WeightsError: a damaged configuration file.
    """
    try:
        if (path / CONFIG_FILE).is_file():
            fields = read_json(path / CONFIG_FILE)
            if fields.get("model_type") == MODEL_TYPE:
                return _read_ours(path, fields) if fields.get("format") == "perceptic" else _read_hf(path, fields)
        for folder in (path, path / "original"):
            if (folder / PARAMS_FILE).is_file():
                return _read_original(folder)
    except (ConfigError, TypeError, ValueError) as error:
        raise WeightsError(f"{path}: {error}") from error
    raise WeightsNotFoundError(
        f"{path}: no PerceptionLM in this folder; expected {PARAMS_FILE} with consolidated*.pth, or {CONFIG_FILE} of "
        f'"model_type": "{MODEL_TYPE}" with safetensors'
    )


def write_plm_folder(
    destination: Path,
    form: PLMFormat,
    state: Mapping[str, Tensor],
    config: PerceptionLMConfig,
    preprocessing: PerceptionLMPreprocessing,
    tokenizer: LlamaTokenizer,
    readme: str,
    quantization: Quantization | None = None,
) -> None:
    """Write a folder in one of the formats, whole or not at all; an older model folder is replaced.

    Args:
        state: the model's own names.
        quantization: of the state's decoder.

    Raises:
        ConfigError: an unknown format, or one that does not know quantised decoders.
        OutputError: no space, no permission, or the folder holds other files than a model's.
    """
    if form not in _WRITERS:
        raise ConfigError(f"no PerceptionLM format is named '{form}'; known: {', '.join(_WRITERS)}")
    if quantization is not None and form != "perceptic":
        raise ConfigError(f"the {form} format does not know decoders of 8 and 4 bits; write form='perceptic'")
    old_shards = tuple(file.name for file in destination.glob("model-*-of-*.safetensors"))
    with atomic_folder(destination, replaceable=_REPLACEABLE + old_shards) as folder:
        _WRITERS[form](folder, state, config, preprocessing)
        if quantization is not None:
            described = {**read_json(folder / CONFIG_FILE), "quantization": write_quantization(quantization)}
            write_json(folder / CONFIG_FILE, described)
        if form == "huggingface":
            tokenizer.save_tokenizer_json(folder / TOKENIZER_JSON)
        else:
            tokenizer.save_rank_file(folder / RANK_FILE)
        (folder / CARD_FILE).write_text(readme, encoding="utf-8")


def _read_ours(path: Path, fields: Mapping[str, Any]) -> PLMFolder:
    if fields.get("format_version", 0) > _FORMAT_VERSION:
        raise WeightsError(f"{path / CONFIG_FILE}: was written by a newer perceptic; update: pip install -U perceptic")
    if not isinstance(fields.get("config"), dict):
        raise WeightsError(f'{path / CONFIG_FILE}: expected a "config" object')
    config = PerceptionLMConfig.from_dict(fields["config"])
    file = path / PREPROCESSING_FILE
    preprocessing = (
        PerceptionLMPreprocessing.from_dict(read_json(file))
        if file.is_file()
        else PerceptionLMPreprocessing(tile_size=config.vision.image_size)
    )
    quantization = read_quantization(fields)
    pairs = _own_pairs() if quantization is None else with_quantized_names(_own_pairs())
    return PLMFolder(path, "perceptic", find_shards(path), config, preprocessing, pairs, _tokenizer(path), quantization)


def _read_hf(path: Path, fields: Mapping[str, Any]) -> PLMFolder:
    config = plm_huggingface_config.read_config(fields)
    processor: dict[str, Any] = {}
    for name in (IMAGE_PROCESSOR_FILE, PROCESSOR_FILE):  # the newer layout wins where it has the settings
        found = read_json(path / name) if (path / name).is_file() else {}
        if name == IMAGE_PROCESSOR_FILE or "image_processor" in found:
            processor = found or processor
    preprocessing = plm_huggingface_config.read_preprocessing(processor, config)
    pairs = huggingface_pairs(config.decoder)
    return PLMFolder(path, "huggingface", find_shards(path), config, preprocessing, pairs, _tokenizer(path))


def _read_original(path: Path) -> PLMFolder:
    fields = read_json(path / PARAMS_FILE)
    weights = tuple(sorted(path.glob(f"{CONSOLIDATED}*.pth")))
    if not weights:
        raise WeightsNotFoundError(f"{path}: has {PARAMS_FILE} but no {CONSOLIDATED}*.pth")
    config = plm_original_config.read_params(fields)
    preprocessing = plm_original_config.read_params_preprocessing(fields, config)
    return PLMFolder(
        path, "original", weights, config, preprocessing, original_pairs(), _original_tokenizer(path, fields)
    )


def _tokenizer(path: Path) -> Path | None:
    return next((path / name for name in (RANK_FILE, TOKENIZER_JSON) if (path / name).is_file()), None)


def _original_tokenizer(path: Path, fields: Mapping[str, Any]) -> Path | None:
    """The file that `params.json` names, if it is there; fine-tunes often name one on another machine."""
    data = fields.get("data")
    named = data.get("tokenizer_path") if isinstance(data, Mapping) else None
    if isinstance(named, str):
        for candidate in (path / named, Path(named)):  # the folder first: a stray file elsewhere must not win
            if candidate.is_file():
                return candidate
    return _tokenizer(path)


def _own_pairs() -> tuple[Pair, ...]:
    return tuple(pair(name, name) for row in original_pairs() for name in row.ours)


def _write_ours(
    folder: Path,
    state: Mapping[str, Tensor],
    config: PerceptionLMConfig,
    preprocessing: PerceptionLMPreprocessing,
) -> None:
    write_shards(folder, state)
    header = {"format": "perceptic", "format_version": _FORMAT_VERSION, "model_type": MODEL_TYPE}
    write_json(folder / CONFIG_FILE, {**header, "config": config.to_dict()})
    write_json(folder / PREPROCESSING_FILE, preprocessing.to_dict())


def _write_hf(
    folder: Path,
    state: Mapping[str, Tensor],
    config: PerceptionLMConfig,
    preprocessing: PerceptionLMPreprocessing,
) -> None:
    write_shards(folder, from_ours(state, huggingface_pairs(config.decoder)))
    write = plm_huggingface_config
    write_json(folder / CONFIG_FILE, write.write_config(config, str(_dtype_of(state)).removeprefix("torch.")))
    write_json(folder / "generation_config.json", write.write_generation_config(config))
    write_json(folder / PROCESSOR_FILE, write.write_processor_config(config, preprocessing))
    write_json(folder / IMAGE_PROCESSOR_FILE, write.write_image_processor(preprocessing))
    write_json(folder / VIDEO_PROCESSOR_FILE, write.write_video_processor(preprocessing))
    write_json(folder / "tokenizer_config.json", write.write_tokenizer_config(config.decoder.max_seqlen))
    (folder / "chat_template.jinja").write_text(_CHAT_TEMPLATE, encoding="utf-8")


def _write_original(
    folder: Path,
    state: Mapping[str, Tensor],
    config: PerceptionLMConfig,
    preprocessing: PerceptionLMPreprocessing,
) -> None:
    theirs = {key: value.detach().clone() for key, value in from_ours(state, original_pairs()).items()}
    torch.save(theirs, folder / f"{CONSOLIDATED}.pth")
    dtype = _ORIGINAL_DTYPES.get(_dtype_of(state), "fp32")
    write_json(folder / PARAMS_FILE, plm_original_config.write_params(config, preprocessing, dtype))


def _dtype_of(state: Mapping[str, Tensor]) -> torch.dtype:
    return next(iter(state.values())).dtype


_WRITERS = {"perceptic": _write_ours, "original": _write_original, "huggingface": _write_hf}
