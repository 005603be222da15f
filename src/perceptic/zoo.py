"""Name -> card: what a model is, where its files live, under which licence, and what was published about it.

Plain data, no torch: `perceptic models` and name completion must be instant. Sources: perception-encoder spec
sections 1.1 to 1.3 (architectures), 3.1 (places) and 7 (published numbers).
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

from perceptic.configs import TEXT_CONFIGS, VISION_CONFIGS, ClipConfig, Preprocessing, TextConfig, VisionConfig
from perceptic.errors import ConfigError

Family = Literal["core", "lang", "spatial"]

PAPER = "Perception Encoder, arXiv 2504.13181"
BUNDLED_NAME = "PE-Core-Nano"


@dataclass(frozen=True)
class PublishedScore:
    """One number of the paper or its repository, in percent."""

    benchmark: str
    metric: str
    percent: float
    source: str = PAPER


@dataclass(frozen=True)
class HubFile:
    """One file of one hub repository."""

    repo_id: str
    filename: str

    def __str__(self) -> str:
        return f"hf://{self.repo_id}:{self.filename}"


@dataclass(frozen=True)
class ModelCard:
    """Everything known about a released model before its weights are opened.

    `original`, `timm` and `open_clip` say where the weights are published in each format (None: they are not).
    A bundled model lies inside the package instead.
    """

    name: str
    family: Family
    vision: VisionConfig
    text: TextConfig | None
    preprocessing: Preprocessing
    licence: str
    origin: str
    summary: str
    original: HubFile | None = None
    timm: HubFile | None = None
    open_clip: HubFile | None = None
    scores: tuple[PublishedScore, ...] = ()
    bundled: bool = False

    @property
    def is_clip(self) -> bool:
        """Whether the model has a text tower."""
        return self.text is not None

    @property
    def config(self) -> ClipConfig | VisionConfig:
        return self.vision if self.text is None else ClipConfig(vision=self.vision, text=self.text)

    @property
    def image_size(self) -> int:
        return self.vision.image_size

    @property
    def vision_parameters(self) -> int:
        return count_vision_parameters(self.vision)

    @property
    def text_parameters(self) -> int:
        return 0 if self.text is None else count_text_parameters(self.text)

    @property
    def parameters(self) -> int:
        """All parameters of the model; CLIP models have one more, the logit scale."""
        return self.vision_parameters + self.text_parameters + int(self.is_clip)

    @property
    def timm_architecture(self) -> str | None:
        """timm's function name, such as vit_pe_core_base_patch16_224."""
        return None if self.timm is None else self.timm.repo_id.removeprefix("timm/").rpartition(".")[0]

    @property
    def open_clip_name(self) -> str | None:
        """open_clip's model name, such as PE-Core-B-16."""
        return None if self.open_clip is None else self.open_clip.repo_id.removeprefix("timm/")

    @property
    def folder(self) -> Path | None:
        """Where a bundled model lies; the folder may be absent in a source checkout that has not trained it."""
        return Path(__file__).parent / "assets" / self.name.lower() if self.bundled else None


@dataclass(frozen=True)
class Location:
    """A name resolved to one place: the card, and the hub file that the name means (None for bundled models)."""

    card: ModelCard
    file: HubFile | None


def names() -> list[str]:
    """All model names, in the order of the zoo."""
    return [card.name for card in cards()]


def locate(name: str) -> Location | None:
    """Find a model by any of its names, or None.

    Accepted, whatever the case: our name (`PE-Core-B16-224`), `facebook/<name>`, timm's repository with or without
    `timm/` and tag, open_clip's name or repository, all of these behind `hf-hub:` too. A name of timm or open_clip
    means their file; our own and the original's mean the original file.
    """
    return _aliases().get(_normalise(name))


def find_card(name: str) -> ModelCard:
    """The card of a model by any of the names `locate` knows.

    Raises:
        ConfigError: no such model; the message lists the nearest names.
    """
    location = locate(name)
    if location is None:
        raise ConfigError(f"no model is named '{name}'; {suggest(name)}")
    return location.card


def matching_card(config: ClipConfig | VisionConfig | TextConfig) -> ModelCard | None:
    """The first model of the zoo with exactly this architecture, if any."""
    return next((card for card in cards() if config in (card.config, card.vision)), None)


def suggest(name: str) -> str:
    """A phrase for error messages: the names nearest to `name`, or all of them."""
    by_normal = {_normalise(known): known for known in names()}
    near = difflib.get_close_matches(_normalise(name).rpartition("/")[2], by_normal, n=3, cutoff=0.55)
    if near:
        return "did you mean " + " or ".join(f"'{by_normal[key]}'" for key in near) + "?"
    return f"known models: {', '.join(names())}"


def count_vision_parameters(config: VisionConfig) -> int:
    """Parameters of a vision tower, by arithmetic (no network is built)."""
    width, hidden = config.width, config.mlp_width
    count = 3 * config.patch_size**2 * width
    count += config.use_cls_token * width
    count += config.use_abs_posemb * (config.num_prefix_tokens + config.grid_size**2) * width
    count += (config.use_ln_pre + config.use_ln_post) * 2 * width
    scales = 0 if config.ls_init_value is None else 2 * width
    count += config.layers * (_count_block(width, hidden) + scales)
    if config.pool_type == "attn":
        # The pool is a block with one norm instead of two, plus the probe vector.
        count += _count_block(width, 4 * width) - 2 * width + width
    return count + (config.output_dim or 0) * width


def count_text_parameters(config: TextConfig) -> int:
    """Parameters of a text tower, by arithmetic (no network is built)."""
    embeddings = (config.vocab_size + config.context_length) * config.width
    blocks = config.layers * _count_block(config.width, config.mlp_width)
    return embeddings + blocks + 2 * config.width + config.width * config.output_dim


def _count_block(width: int, hidden: int) -> int:
    attention = 4 * width * width + 4 * width
    mlp = 2 * width * hidden + hidden + width
    return attention + mlp + 4 * width


@cache
def cards() -> tuple[ModelCard, ...]:
    """Every model, the bundled one first."""
    return (_nano(), *(_released(name, *places) for name, places in _PLACES.items()))


# name -> (timm repository, open_clip repository)
_PLACES: dict[str, tuple[str, str | None]] = {
    "PE-Core-T16-384": ("timm/vit_pe_core_tiny_patch16_384.fb", "timm/PE-Core-T-16-384"),
    "PE-Core-S16-384": ("timm/vit_pe_core_small_patch16_384.fb", "timm/PE-Core-S-16-384"),
    "PE-Core-B16-224": ("timm/vit_pe_core_base_patch16_224.fb", "timm/PE-Core-B-16"),
    "PE-Core-L14-336": ("timm/vit_pe_core_large_patch14_336.fb", "timm/PE-Core-L-14-336"),
    "PE-Core-G14-448": ("timm/vit_pe_core_gigantic_patch14_448.fb", "timm/PE-Core-bigG-14-448"),
    "PE-Lang-L14-448": ("timm/vit_pe_lang_large_patch14_448.fb", None),
    "PE-Lang-L14-448-Tiling": ("timm/vit_pe_lang_large_patch14_448.fb_tiling", None),
    "PE-Lang-G14-448": ("timm/vit_pe_lang_gigantic_patch14_448.fb", None),
    "PE-Lang-G14-448-Tiling": ("timm/vit_pe_lang_gigantic_patch14_448.fb_tiling", None),
    "PE-Spatial-T16-512": ("timm/vit_pe_spatial_tiny_patch16_512.fb", None),
    "PE-Spatial-S16-512": ("timm/vit_pe_spatial_small_patch16_512.fb", None),
    "PE-Spatial-B16-512": ("timm/vit_pe_spatial_base_patch16_512.fb", None),
    "PE-Spatial-L14-448": ("timm/vit_pe_spatial_large_patch14_448.fb", None),
    "PE-Spatial-G14-448": ("timm/vit_pe_spatial_gigantic_patch14_448.fb", None),
}

_SUMMARIES: dict[Family, str] = {
    "core": "images, videos and texts in one embedding space: search, zero-shot labels",
    "lang": "patch features aligned to language models; no text tower, no pooled embedding",
    "spatial": "patch features for dense work: segmentation, tracking, detection; no pooled embedding",
}

_CORE_COLUMNS = (
    ("ImageNet-1k", "zero-shot top-1"),
    ("ImageNet-v2", "zero-shot top-1"),
    ("ImageNet-A", "zero-shot top-1"),
    ("ObjectNet", "zero-shot top-1"),
    ("COCO", "text-to-image R@1"),
    ("Kinetics-400", "zero-shot top-1"),
    ("MSR-VTT", "text-to-video R@1"),
)
_LANG_COLUMNS = (
    ("DocVQA val", "accuracy with a frozen encoder, no tiling"),
    ("InfoQA val", "accuracy with a frozen encoder, no tiling"),
    ("TextVQA", "accuracy with a frozen encoder, no tiling"),
    ("MVBench", "accuracy with a frozen encoder, no tiling"),
    ("PerceptionTest val", "accuracy with a frozen encoder, no tiling"),
    ("EgoSchema val", "accuracy with a frozen encoder, no tiling"),
)
_SPATIAL_COLUMNS = (("ADE20k", "linear-probe mIoU"), ("DAVIS", "zero-shot tracking J&F"))

_SCORES: dict[str, tuple[tuple[tuple[str, str], ...], tuple[float, ...]]] = {
    "PE-Core-T16-384": (_CORE_COLUMNS, (62.1, 54.7, 21.1, 43.9, 33.0, 41.5, 28.8)),
    "PE-Core-S16-384": (_CORE_COLUMNS, (72.7, 65.0, 49.5, 60.0, 42.6, 55.0, 39.3)),
    "PE-Core-B16-224": (_CORE_COLUMNS, (78.4, 71.7, 62.4, 71.9, 50.9, 65.6, 47.6)),
    "PE-Core-L14-336": (_CORE_COLUMNS, (83.5, 77.9, 89.0, 84.7, 57.1, 73.4, 50.3)),
    "PE-Core-G14-448": (_CORE_COLUMNS, (85.4, 80.2, 92.6, 88.2, 58.1, 76.9, 51.2)),
    "PE-Lang-L14-448": (_LANG_COLUMNS, (81.9, 46.4, 73.0, 52.3, 54.7, 59.8)),
    "PE-Lang-G14-448": (_LANG_COLUMNS, (84.4, 48.3, 75.2, 52.4, 56.0, 62.0)),
    "PE-Spatial-T16-512": (_SPATIAL_COLUMNS, (27.6, 55.0)),
    "PE-Spatial-S16-512": (_SPATIAL_COLUMNS, (37.5, 57.5)),
    "PE-Spatial-B16-512": (_SPATIAL_COLUMNS, (44.4, 58.9)),
    "PE-Spatial-L14-448": (_SPATIAL_COLUMNS, (48.1, 60.6)),
    "PE-Spatial-G14-448": (_SPATIAL_COLUMNS, (49.3, 61.5)),
}


def _released(name: str, timm_repo: str, open_clip_repo: str | None) -> ModelCard:
    family: Family = {"Core": "core", "Lang": "lang", "Spatial": "spatial"}[name.split("-")[1]]  # type: ignore[assignment]
    columns, values = _SCORES.get(name, ((), ()))
    return ModelCard(
        name=name,
        family=family,
        vision=VISION_CONFIGS[name],
        text=TEXT_CONFIGS.get(name),
        preprocessing=Preprocessing(image_size=VISION_CONFIGS[name].image_size),
        licence="Apache-2.0",
        origin=f"Meta FAIR; {PAPER}",
        summary=_SUMMARIES[family] + (" (trained with image tiling)" if name.endswith("-Tiling") else ""),
        original=HubFile(f"facebook/{name}", f"{name}.pt"),
        timm=HubFile(timm_repo, "model.safetensors"),
        open_clip=None if open_clip_repo is None else HubFile(open_clip_repo, "open_clip_model.safetensors"),
        scores=tuple(PublishedScore(*column, percent=value) for column, value in zip(columns, values, strict=True)),
    )


def _nano() -> ModelCard:
    return ModelCard(
        name=BUNDLED_NAME,
        family="core",
        vision=VISION_CONFIGS[BUNDLED_NAME],
        text=TEXT_CONFIGS[BUNDLED_NAME],
        preprocessing=Preprocessing(image_size=VISION_CONFIGS[BUNDLED_NAME].image_size),
        licence="Apache-2.0",
        origin="perceptic; trained from scratch on perceptic.world",
        summary="bundled, works offline; knows only the synthetic world of perceptic.world",
        bundled=True,
    )


@cache
def _aliases() -> dict[str, Location]:
    table: dict[str, Location] = {}
    for card in cards():
        table[_normalise(card.name)] = Location(card, card.original)
        for file in (card.original, card.timm, card.open_clip):
            if file is not None:
                table[_normalise(file.repo_id)] = Location(card, file)
        if card.timm is not None:
            bare = card.timm.repo_id.removeprefix("timm/")
            table[_normalise(bare)] = Location(card, card.timm)
            # Without a tag timm means the plain weights, not the tiling ones, which come later in the zoo.
            table.setdefault(_normalise(bare.rpartition(".")[0]), Location(card, card.timm))
        if card.open_clip_name is not None:
            table[_normalise(card.open_clip_name)] = Location(card, card.open_clip)
    return table


def _normalise(name: str) -> str:
    plain = str(name).strip().lower().replace("_", "-").replace(" ", "-")
    return plain.removeprefix("hf-hub:")
