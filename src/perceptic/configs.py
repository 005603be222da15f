"""Every architecture and preprocessing as plain frozen data.

Field names are those of the original checkpoints' constructor arguments, so that a configuration written for them
works here word for word. Source: perception-encoder spec sections 1.1, 1.2 and 4.
"""

from __future__ import annotations

import dataclasses
import difflib
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from perceptic.errors import ConfigError

PoolType = Literal["attn", "tok", "avg", "none"]
ResizeMode = Literal["squash", "center_crop"]

ConfigT = TypeVar("ConfigT", bound="Config")


@dataclass(frozen=True)
class Config:
    """What every configuration can do: strict reading from a mapping, writing to one, changed copies."""

    @classmethod
    def from_dict(cls: type[ConfigT], fields: dict[str, Any]) -> ConfigT:
        """Build from a mapping; an unknown key is an error that names the nearest known one.

        Raises:
            ConfigError: unknown or missing keys, or values that cannot work together.
        """
        known = [field.name for field in dataclasses.fields(cls)]
        for key in fields:
            if key not in known:
                near = difflib.get_close_matches(key, known, n=1)
                hint = f"; did you mean '{near[0]}'?" if near else f"; known keys: {', '.join(known)}"
                raise ConfigError(f"{cls.__name__} has no key '{key}'{hint}")
        try:
            return cls(**fields)
        except TypeError as error:
            raise ConfigError(f"{cls.__name__}: {error}") from error

    def to_dict(self) -> dict[str, Any]:
        """Plain dictionary of JSON values."""
        return dataclasses.asdict(self)

    def replace(self: ConfigT, **changes: Any) -> ConfigT:
        """Copy with some fields changed. Raises ConfigError on unknown fields."""
        return type(self).from_dict({**{f.name: getattr(self, f.name) for f in dataclasses.fields(self)}, **changes})

    def _require(self, condition: bool, message: str) -> None:
        if not condition:
            raise ConfigError(f"{type(self).__name__}: {message}")


@dataclass(frozen=True)
class VisionConfig(Config):
    """One vision tower. `output_dim=None` means no projection, `ls_init_value=None` no LayerScale."""

    patch_size: int
    width: int
    layers: int
    heads: int
    mlp_ratio: float = 4.0
    output_dim: int | None = None
    ls_init_value: float | None = None
    drop_path: float = 0.0
    image_size: int = 224
    use_abs_posemb: bool = True
    use_cls_token: bool = False
    use_rope2d: bool = True
    pool_type: PoolType = "attn"
    attn_pooler_heads: int = 8
    use_ln_pre: bool = True
    use_ln_post: bool = True

    def __post_init__(self) -> None:
        for name in ("patch_size", "width", "layers", "heads", "image_size", "attn_pooler_heads"):
            value = getattr(self, name)
            self._require(isinstance(value, int) and value > 0, f"{name} must be a positive integer, not {value!r}")
        self._require(self.width % self.heads == 0, f"width {self.width} is not a multiple of heads {self.heads}")
        self._require(
            not self.use_rope2d or self.head_dim % 4 == 0,
            f"2-D RoPE needs a head size that is a multiple of 4, not {self.head_dim}",
        )
        self._require(
            self.pool_type in ("attn", "tok", "avg", "none"),
            f"pool_type must be attn, tok, avg or none, not {self.pool_type!r}",
        )
        self._require(
            self.pool_type != "attn" or self.width % self.attn_pooler_heads == 0,
            f"width {self.width} is not a multiple of attn_pooler_heads {self.attn_pooler_heads}",
        )
        self._require(self.pool_type != "tok" or self.use_cls_token, "pool_type 'tok' needs use_cls_token")
        self._require(
            self.image_size >= self.patch_size,
            f"image_size {self.image_size} is smaller than patch_size {self.patch_size}",
        )
        self._require(0.0 <= self.drop_path < 1.0, f"drop_path must be in [0, 1), not {self.drop_path}")

    @property
    def grid_size(self) -> int:
        """Patches along one side at the native image size."""
        return self.image_size // self.patch_size

    @property
    def head_dim(self) -> int:
        return self.width // self.heads

    @property
    def mlp_width(self) -> int:
        return int(self.width * self.mlp_ratio)

    @property
    def num_prefix_tokens(self) -> int:
        return int(self.use_cls_token)


@dataclass(frozen=True)
class TextConfig(Config):
    """One text tower: causal, pooled at the end-of-text token (the largest id)."""

    context_length: int
    width: int
    heads: int
    layers: int
    output_dim: int
    mlp_ratio: float = 4.0
    vocab_size: int = 49408

    def __post_init__(self) -> None:
        for name in ("context_length", "width", "heads", "layers", "output_dim", "vocab_size"):
            value = getattr(self, name)
            self._require(isinstance(value, int) and value > 0, f"{name} must be a positive integer, not {value!r}")
        self._require(self.width % self.heads == 0, f"width {self.width} is not a multiple of heads {self.heads}")

    @property
    def mlp_width(self) -> int:
        return int(self.width * self.mlp_ratio)


@dataclass(frozen=True)
class ClipConfig(Config):
    """A vision tower and a text tower that share one embedding space."""

    vision: VisionConfig
    text: TextConfig

    def __post_init__(self) -> None:
        if self.vision.output_dim != self.text.output_dim:
            raise ConfigError(
                f"ClipConfig: output_dim differs: vision {self.vision.output_dim}, text {self.text.output_dim}"
            )

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> ClipConfig:
        if set(fields) != {"vision", "text"}:
            raise ConfigError(f"ClipConfig needs exactly the keys 'vision' and 'text', not {sorted(fields)}")
        return cls(vision=VisionConfig.from_dict(fields["vision"]), text=TextConfig.from_dict(fields["text"]))


@dataclass(frozen=True)
class Preprocessing(Config):
    """How pixels enter a vision tower (spec 4). `exact` is Pillow's filter, `fast` the antialiased tensor resize."""

    image_size: int
    resize_mode: ResizeMode = "squash"
    interpolation: Literal["bilinear", "bicubic"] = "bilinear"
    method: Literal["exact", "fast"] = "exact"
    mean: tuple[float, float, float] = (0.5, 0.5, 0.5)
    std: tuple[float, float, float] = (0.5, 0.5, 0.5)

    def __post_init__(self) -> None:
        for name in ("mean", "std"):  # JSON has lists only
            object.__setattr__(self, name, tuple(getattr(self, name)))
        self._require(
            isinstance(self.image_size, int) and self.image_size > 0,
            f"image_size must be a positive integer, not {self.image_size!r}",
        )
        self._require(
            self.resize_mode in ("squash", "center_crop"),
            f"resize_mode must be squash or center_crop, not {self.resize_mode!r}",
        )
        self._require(
            self.interpolation in ("bilinear", "bicubic"),
            f"interpolation must be bilinear or bicubic, not {self.interpolation!r}",
        )
        self._require(self.method in ("exact", "fast"), f"method must be exact or fast, not {self.method!r}")


def _core(
    image_size: int, patch_size: int, width: int, layers: int, heads: int, output_dim: int, **extra: Any
) -> VisionConfig:
    return VisionConfig(
        image_size=image_size,
        patch_size=patch_size,
        width=width,
        layers=layers,
        heads=heads,
        output_dim=output_dim,
        **{"use_cls_token": True, **extra},
    )


def _tokens_only(image_size: int, patch_size: int, width: int, layers: int, heads: int, **extra: Any) -> VisionConfig:
    fields = {"use_cls_token": True, "pool_type": "none", "use_ln_post": False, **extra}
    return VisionConfig(image_size=image_size, patch_size=patch_size, width=width, layers=layers, heads=heads, **fields)


_GIGANTIC: dict[str, Any] = {"mlp_ratio": 8960 / 1536, "use_cls_token": False}

VISION_CONFIGS: dict[str, VisionConfig] = {
    "PE-Core-T16-384": _core(384, 16, 192, 12, 3, 512),
    "PE-Core-S16-384": _core(384, 16, 384, 12, 6, 512),
    "PE-Core-B16-224": _core(224, 16, 768, 12, 12, 1024),
    "PE-Core-L14-336": _core(336, 14, 1024, 24, 16, 1024),
    "PE-Core-G14-448": _core(448, 14, 1536, 50, 16, 1280, **_GIGANTIC),
    "PE-Lang-L14-448": _tokens_only(448, 14, 1024, 23, 16, ls_init_value=0.1),
    "PE-Lang-L14-448-Tiling": _tokens_only(448, 14, 1024, 23, 16, ls_init_value=0.1),
    "PE-Lang-G14-448": _tokens_only(448, 14, 1536, 47, 16, ls_init_value=0.1, **_GIGANTIC),
    "PE-Lang-G14-448-Tiling": _tokens_only(448, 14, 1536, 47, 16, ls_init_value=0.1, **_GIGANTIC),
    "PE-Spatial-T16-512": _tokens_only(512, 16, 192, 12, 3),
    "PE-Spatial-S16-512": _tokens_only(512, 16, 384, 12, 6),
    "PE-Spatial-B16-512": _tokens_only(512, 16, 768, 12, 12),
    "PE-Spatial-L14-448": _tokens_only(448, 14, 1024, 24, 16),
    "PE-Spatial-G14-448": _tokens_only(448, 14, 1536, 50, 16, ls_init_value=0.1, **_GIGANTIC),
    "PE-Core-Nano": _core(64, 8, 192, 6, 3, 192, attn_pooler_heads=4),
}

TEXT_CONFIGS: dict[str, TextConfig] = {
    "PE-Core-T16-384": TextConfig(context_length=32, width=512, heads=8, layers=12, output_dim=512),
    "PE-Core-S16-384": TextConfig(context_length=32, width=512, heads=8, layers=12, output_dim=512),
    "PE-Core-B16-224": TextConfig(context_length=32, width=1024, heads=16, layers=24, output_dim=1024),
    "PE-Core-L14-336": TextConfig(context_length=32, width=1024, heads=16, layers=24, output_dim=1024),
    "PE-Core-G14-448": TextConfig(context_length=72, width=1280, heads=20, layers=24, output_dim=1280),
    "PE-Core-Nano": TextConfig(context_length=64, width=128, heads=4, layers=3, output_dim=192, vocab_size=960),
}


def vision_config(name: str) -> VisionConfig:
    """The vision tower of a zoo name. Raises ConfigError naming the nearest known name."""
    return named_entry(VISION_CONFIGS, name, "vision tower")


def clip_config(name: str) -> ClipConfig:
    """The CLIP model of a zoo name (PE-Core only). Raises ConfigError naming the nearest known name."""
    return ClipConfig(vision=vision_config(name), text=named_entry(TEXT_CONFIGS, name, "CLIP model"))


NamedT = TypeVar("NamedT")


def named_entry(table: dict[str, NamedT], name: str, what: str) -> NamedT:
    """Look a name up. Raises ConfigError naming the nearest known name; `what` says what was looked for."""
    if name in table:
        return table[name]
    near = difflib.get_close_matches(str(name), table, n=1, cutoff=0.5)
    hint = f"did you mean '{near[0]}'? " if near else ""
    raise ConfigError(f"no {what} is named '{name}'; {hint}known: {', '.join(table)}")
