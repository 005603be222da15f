"""The public models: the networks of `perceptic.models` with weights from anywhere, and back to disk.

clip = CLIP.from_pretrained("PE-Core-L14-336")                          # name, hub repository, folder or file
tower = VisionTransformer.from_pretrained("checkpoint.pt", dtype="bfloat16")
clip.save_pretrained("my-model")
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeVar

import torch
from torch import nn

from perceptic.configs import (
    TEXT_CONFIGS,
    VISION_CONFIGS,
    ClipConfig,
    Preprocessing,
    TextConfig,
    VisionConfig,
    clip_config,
    vision_config,
)
from perceptic.errors import ConfigError, WeightsError
from perceptic.models import clip, text, vision
from perceptic.weights.checkpoint import open_checkpoint
from perceptic.weights.dtypes import parse_dtype
from perceptic.weights.folder import AnyConfig, write_folder
from perceptic.weights.formats import Tower
from perceptic.weights.hub import HubOptions
from perceptic.weights.infer import infer_config
from perceptic.weights.loading import OpenedWeights, build_empty, fill, identify
from perceptic.weights.sources import ModelFiles, find_files
from perceptic.zoo import ModelCard, locate

if TYPE_CHECKING:
    from perceptic.text.clip_tokenizer import ClipTokenizer

PretrainedT = TypeVar("PretrainedT", bound="Pretrained")


class Pretrained(nn.Module):
    """What every public model can do beyond its network: come from files and go to files.

    Attributes:
        preprocessing: how pixels enter (None for a text tower). It travels with saved weights.
        card: the zoo's card when the model was loaded by a zoo name, else None.
    """

    _tower: ClassVar[Tower | None]  # the part of a checkpoint that this model is; None: all of it
    _config_class: ClassVar[type[Any]]
    config: Any
    preprocessing: Preprocessing | None
    card: ModelCard | None

    def __init__(self, config: Any) -> None:
        super().__init__(config)  # the network beside this class in the bases
        self.card = None
        self.preprocessing = _default_preprocessing(config)

    @classmethod
    def from_pretrained(
        cls: type[PretrainedT],
        source: str | Path,
        *,
        config: AnyConfig | Mapping[str, Any] | None = None,
        dtype: torch.dtype | str | None = None,
        device: torch.device | str | None = None,
        revision: str | None = None,
        cache_dir: str | Path | None = None,
        local_files_only: bool = False,
    ) -> PretrainedT:
        """Load a model, in evaluation mode. All weights come from the file, or an error is raised.

        Args:
            source: a zoo name (any spelling `perceptic.zoo.locate` knows), a hub repository, `hf://org/repo:file`, a
                folder or a file; original, timm, open_clip or perceptic format, detected by content. A CLIP file
                feeds a bare tower.
            config: the architecture, where name and folder do not say it; without it, it is read off the shapes.
            dtype: cast to this type; None keeps the stored one. Weights are mapped from the file, not copied; a
                cast makes new ones tensor by tensor.
            device: where the model goes; None is the CPU.
            revision, cache_dir, local_files_only: for the hub.

        Raises:
            WeightsNotFoundError, HubError, OutputError: the files cannot be had.
            WeightsError: damaged, foreign, or weights of another architecture (the wrong keys are named).
            ConfigError: a configuration that cannot work.
        """
        files = find_files(source, HubOptions(revision, cache_dir, local_files_only))
        weights = identify(open_checkpoint(files.weights))
        return load_open_weights(cls, files, weights, config, parse_dtype(dtype), device)

    @classmethod
    def from_config(
        cls: type[PretrainedT],
        name_or_config: str | AnyConfig | Mapping[str, Any],
        pretrained: bool = False,
        checkpoint_path: str | Path | None = None,
        **overrides: Any,
    ) -> PretrainedT:
        """Build a model, with fresh weights unless `pretrained` (the original's constructor, spec 2.10).

        Args:
            name_or_config: a zoo name, or a configuration.
            pretrained: load weights: those of the zoo name, or of `checkpoint_path`.
            checkpoint_path: a source as `from_pretrained` takes it, such as `hf://org/repo:file`.
            overrides: fields of the tower's configuration to change. With `pretrained`, fewer `layers` means the
                first ones of the file.

        Raises:
            ConfigError: an unknown name or field, or a `checkpoint_path` without `pretrained`.
            WeightsError and its kinds: as `from_pretrained`.
        """
        base = cls._named_config(name_or_config) if isinstance(name_or_config, str) else name_or_config
        base = _as_config(cls._config_class, base)
        config = base.replace(**overrides) if overrides else base
        if not pretrained:
            if checkpoint_path is not None:
                raise ConfigError("checkpoint_path is given but pretrained is False; pass pretrained=True to load it")
            return cls(config)
        if checkpoint_path is None and not isinstance(name_or_config, str):
            raise ConfigError("pretrained=True with a configuration needs checkpoint_path")
        source = str(name_or_config) if checkpoint_path is None else checkpoint_path
        return cls._load_config(source, base, config)

    @classmethod
    def _load_config(cls: type[PretrainedT], source: str | Path, base: Any, config: Any) -> PretrainedT:
        """Load weights of the architecture `base` into `config`, which overrides may have changed."""
        return cls.from_pretrained(source, config=config)

    @classmethod
    def available_configs(cls) -> list[str]:
        """The names that `from_config` and `from_pretrained` know."""
        raise NotImplementedError

    @classmethod
    def _named_config(cls, name: str) -> Any:
        raise NotImplementedError

    def save_pretrained(
        self,
        folder: str | Path,
        *,
        preprocessing: Preprocessing | None = None,
        tokenizer: ClipTokenizer | None = None,
        card: str | None = None,
    ) -> Path:
        """Write a model folder that `from_pretrained` reads: whole or not at all.

        Args:
            preprocessing: other than the model's own.
            tokenizer: stored beside the weights; give it for a model with its own vocabulary.
            card: text of the README; None writes a short one.

        Returns:
            The folder.

        Raises:
            OutputError: no space, no permission, or the folder holds other files.
        """
        folder = Path(folder)
        preprocessing = preprocessing or self.preprocessing
        write_folder(folder, self.state_dict(), self.config, preprocessing, tokenizer=tokenizer, readme=card)
        return folder

    def _describe(self, files: ModelFiles) -> None:
        """Take over what is known about the files."""
        self.card = files.card
        card_preprocessing = files.card.preprocessing if files.card else None
        known = files.preprocessing or card_preprocessing
        # A tower that was built for another size than its card says needs images of its own size.
        if known is not None and self.preprocessing is not None:
            self.preprocessing = known.replace(image_size=self.preprocessing.image_size)


class VisionTransformer(Pretrained, vision.VisionTransformer):
    """A vision tower (Core, Lang or Spatial). See `perceptic.models.vision` for its methods."""

    _tower: ClassVar[Tower | None] = "vision"
    _config_class = VisionConfig
    config: VisionConfig

    @classmethod
    def _load_config(cls, source: str | Path, base: Any, config: Any) -> VisionTransformer:
        if config.layers >= base.layers:
            return cls.from_pretrained(source, config=config)
        model = cls.from_pretrained(source, config=config.replace(layers=base.layers))
        model.truncate(config.layers - 1)
        return model

    @classmethod
    def available_configs(cls) -> list[str]:
        return list(VISION_CONFIGS)

    @classmethod
    def _named_config(cls, name: str) -> VisionConfig:
        return vision_config(_canonical(name))


class TextTransformer(Pretrained, text.TextTransformer):
    """A text tower (Core only). See `perceptic.models.text` for its methods."""

    _tower: ClassVar[Tower | None] = "text"
    _config_class = TextConfig
    config: TextConfig

    @classmethod
    def available_configs(cls) -> list[str]:
        return list(TEXT_CONFIGS)

    @classmethod
    def _named_config(cls, name: str) -> TextConfig:
        return clip_config(_canonical(name)).text


class CLIP(Pretrained, clip.CLIP):
    """Image, video and text encoder (Core only). See `perceptic.models.clip` for its methods."""

    _tower: ClassVar[Tower | None] = None
    _config_class = ClipConfig
    vision_class = VisionTransformer
    text_class = TextTransformer
    visual: VisionTransformer
    text: TextTransformer

    @classmethod
    def available_configs(cls) -> list[str]:
        return list(TEXT_CONFIGS)

    @classmethod
    def _named_config(cls, name: str) -> ClipConfig:
        return clip_config(_canonical(name))

    def _describe(self, files: ModelFiles) -> None:
        super()._describe(files)
        self.visual.preprocessing, self.visual.card = self.preprocessing, self.card


def load_open_weights(
    model_class: type[PretrainedT],
    files: ModelFiles,
    weights: OpenedWeights,
    config: AnyConfig | Mapping[str, Any] | None = None,
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
) -> PretrainedT:
    """`from_pretrained` for weights that are already opened. Raises WeightsError and ConfigError as it does."""
    _require_towers(model_class._tower, files, weights)
    chosen = _pick_config(model_class._config_class, config, files, weights)
    model = build_empty(model_class, chosen)
    fill(model, weights, model_class._tower, dtype)
    model._describe(files)
    return model.eval() if device is None else model.to(device).eval()


@dataclass(frozen=True)
class ModelBundle:
    """A model with everything that belongs to it. `tokenizer` is None for a vision tower alone."""

    name: str
    model: CLIP | VisionTransformer
    preprocessing: Preprocessing
    tokenizer: ClipTokenizer | None
    card: ModelCard | None


def load_bundle(
    source: str | Path,
    *,
    kind: Literal["clip", "vision"] | None = None,
    dtype: torch.dtype | str | None = None,
    device: torch.device | str | None = None,
    config: AnyConfig | Mapping[str, Any] | None = None,
    revision: str | None = None,
    cache_dir: str | Path | None = None,
    local_files_only: bool = False,
) -> ModelBundle:
    """Load a model with its preprocessing, tokenizer and card.

    Args:
        kind: what to load; None takes CLIP where the file has both towers, else the vision tower.
        source, dtype, device, config, revision, cache_dir, local_files_only: as `CLIP.from_pretrained`.

    Raises:
        WeightsError and its kinds, ConfigError: as `CLIP.from_pretrained`.
        TextError: a CLIP model whose vocabulary cannot be found.
    """
    files = find_files(source, HubOptions(revision, cache_dir, local_files_only))
    weights = identify(open_checkpoint(files.weights))
    kind = kind or ("clip" if weights.towers == {"vision", "text"} else "vision")
    if kind not in ("clip", "vision"):
        raise ConfigError(f"kind must be 'clip', 'vision' or None, not '{kind}'")
    model_class: type[CLIP] | type[VisionTransformer] = CLIP if kind == "clip" else VisionTransformer
    model = load_open_weights(model_class, files, weights, config, parse_dtype(dtype), device)
    assert model.preprocessing is not None
    return ModelBundle(
        name=files.name,
        model=model,
        preprocessing=model.preprocessing,
        tokenizer=_find_tokenizer(model, files) if isinstance(model, CLIP) else None,
        card=files.card,
    )


def _find_tokenizer(model: CLIP, files: ModelFiles) -> ClipTokenizer:
    # Imported here: a vision tower needs no vocabulary and no tokenizers library.
    from perceptic.text.clip_tokenizer import ClipTokenizer

    tokenizer = ClipTokenizer.find(files.folder, context_length=model.context_length)
    vocabulary = model.text.config.vocab_size
    if tokenizer.vocab_size != vocabulary:
        raise WeightsError(
            f"{files.name}: the text tower has {vocabulary} token embeddings but the vocabulary found has "
            f"{tokenizer.vocab_size}; put the model's own tokenizer.json beside its weights"
        )
    return tokenizer


def _require_towers(tower: Tower | None, files: ModelFiles, weights: OpenedWeights) -> None:
    missing = ({"vision", "text"} if tower is None else {tower}) - weights.towers
    if not missing:
        return
    advice = ""
    if weights.towers == {"vision"}:
        advice = "; load them with VisionTransformer"
        if files.card and files.card.is_clip:
            advice += f", or both towers from {files.card.original}"
    elif "vision" not in weights.towers:
        advice = "; load them with TextTransformer"
    raise WeightsError(f"{files.weights}: {weights.form.name} weights without a {missing.pop()} tower{advice}")


def _pick_config(config_class: type[Any], given: Any, files: ModelFiles, weights: OpenedWeights) -> Any:
    """The architecture: what the caller says, else the folder, else the card, else the shapes."""
    if given is not None:
        return _as_config(config_class, given)
    card_config = files.card.config if files.card else None
    try:
        config = files.config or card_config or infer_config(weights.shapes)
        return _as_config(config_class, config)
    except (ConfigError, WeightsError) as error:
        towers = " and ".join(sorted(weights.towers, reverse=True)) or "no"
        raise WeightsError(f"{files.weights}: {weights.form.name} weights with {towers} tower: {error}") from error


def _as_config(config_class: type[Any], given: Any) -> Any:
    """A configuration of the class a model needs: from a mapping, or one tower of a ClipConfig."""
    if isinstance(given, Mapping):
        is_clip = set(given) == {"vision", "text"}
        given = ClipConfig.from_dict(dict(given)) if is_clip else config_class.from_dict(dict(given))
    if isinstance(given, ClipConfig) and config_class is not ClipConfig:
        given = given.vision if config_class is VisionConfig else given.text
    if not isinstance(given, config_class):
        raise ConfigError(f"expected a {config_class.__name__}, not a {type(given).__name__}")
    return given


def _canonical(name: str) -> str:
    location = locate(name)
    return location.card.name if location else name


def _default_preprocessing(config: Any) -> Preprocessing | None:
    tower = config.vision if isinstance(config, ClipConfig) else config
    return Preprocessing(image_size=tower.image_size) if isinstance(tower, VisionConfig) else None
