"""PerceptionLM architectures and their preprocessing as plain frozen data.

Field names are those of the original checkpoints' `params.json`. Source: perception-language-model spec sections 1.1
to 1.4 and 4.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from perceptic.configs import Config, VisionConfig, named_entry
from perceptic.errors import ConfigError

NUM_SPECIAL_TOKENS = 256
_IMAGE_TOKEN = 2  # offset from the first special token (spec 3.1)


@dataclass(frozen=True)
class DecoderConfig(Config):
    """A Llama 3 decoder. Defaults are those the original assumes for keys that a `params.json` leaves out.

    `n_kv_heads=None` means one per head, `head_dim=None` means dim / n_heads, `rope_scale_factor=1` plain RoPE.
    """

    dim: int
    n_layers: int
    n_heads: int
    vocab_size: int
    n_kv_heads: int | None = None
    head_dim: int | None = None
    ffn_dim_multiplier: float | None = None
    multiple_of: int = 256
    norm_eps: float = 1e-5
    rope_theta: float = 10000.0
    rope_scale_factor: float = 1.0
    low_freq_factor: float = 1.0
    high_freq_factor: float = 32.0
    old_context_len: int = 8192
    max_seqlen: int = 11520
    weight_tying: bool = False

    def __post_init__(self) -> None:
        for name in ("dim", "n_layers", "n_heads", "vocab_size", "multiple_of", "old_context_len", "max_seqlen"):
            self._require_positive_int(name, getattr(self, name))
        for name in ("n_kv_heads", "head_dim"):
            if getattr(self, name) is not None:
                self._require_positive_int(name, getattr(self, name))
        for name in ("norm_eps", "rope_theta", "rope_scale_factor", "low_freq_factor", "high_freq_factor"):
            value = getattr(self, name)
            self._require(isinstance(value, (int, float)) and value > 0, f"{name} must be positive, not {value!r}")
        self._require(
            self.head_dim is not None or self.dim % self.n_heads == 0,
            f"dim {self.dim} is not a multiple of n_heads {self.n_heads}",
        )
        self._require(self.head_size % 2 == 0, f"RoPE needs an even head size, not {self.head_size}")
        self._require(
            self.n_heads % self.num_kv_heads == 0,
            f"n_heads {self.n_heads} is not a multiple of n_kv_heads {self.num_kv_heads}",
        )
        self._require(
            self.rope_scale_factor == 1 or self.high_freq_factor > self.low_freq_factor,
            "high_freq_factor must exceed low_freq_factor",
        )

    def _require_positive_int(self, name: str, value: object) -> None:
        self._require(isinstance(value, int) and value > 0, f"{name} must be a positive integer, not {value!r}")

    @property
    def num_kv_heads(self) -> int:
        return self.n_heads if self.n_kv_heads is None else self.n_kv_heads

    @property
    def head_size(self) -> int:
        return self.dim // self.n_heads if self.head_dim is None else self.head_dim

    @property
    def ffn_width(self) -> int:
        """Hidden width of the feed-forward: 8/3 dim, times the multiplier, rounded up to `multiple_of` (spec 1.1)."""
        width = _ffn_base(self.dim)
        if self.ffn_dim_multiplier is not None:
            width = int(self.ffn_dim_multiplier * width)
        return self.multiple_of * -(-width // self.multiple_of)

    @property
    def kv_values_per_token(self) -> int:
        """Numbers that the key-value cache keeps per token."""
        return 2 * self.n_layers * self.num_kv_heads * self.head_size


@dataclass(frozen=True)
class FfnFields:
    """The two fields of `DecoderConfig` that give a wanted feed-forward width."""

    ffn_dim_multiplier: float
    multiple_of: int


def ffn_fields(dim: int, ffn_width: int) -> FfnFields:
    """The inverse of `DecoderConfig.ffn_width`, for formats that store the width itself."""
    multiple_of = next(m for m in (1024, 256, 64, 32, 1) if ffn_width % m == 0)
    # Half a unit short of the width: the product is truncated, then rounded up; neither can then miss it.
    return FfnFields((ffn_width - 0.5 if multiple_of > 1 else ffn_width + 0.5) / _ffn_base(dim), multiple_of)


def _ffn_base(dim: int) -> int:
    return int(2 * (4 * dim) / 3)


@dataclass(frozen=True)
class PerceptionLMConfig(Config):
    """A decoder, the vision tower before it, and the pooling between them.

    Attributes:
        pooling_ratio: patches along one side that are averaged into one token.
        image_token_id: where a chunk's tokens go in the token ids.
    """

    decoder: DecoderConfig
    vision: VisionConfig
    pooling_ratio: int = 2
    image_token_id: int = 128002

    def __post_init__(self) -> None:
        self._require(
            isinstance(self.pooling_ratio, int) and 0 < self.pooling_ratio <= self.vision.grid_size,
            f"pooling_ratio must be between 1 and the tower's {self.vision.grid_size} patches a side, "
            f"not {self.pooling_ratio!r}",
        )
        self._require(
            self.vision.pool_type == "none", f"the tower must not pool, but its pool_type is '{self.vision.pool_type}'"
        )
        self._require(
            0 <= self.image_token_id < self.decoder.vocab_size,
            f"image_token_id {self.image_token_id} is outside the vocabulary of {self.decoder.vocab_size}",
        )

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> PerceptionLMConfig:
        for key in ("decoder", "vision"):
            if key not in fields:
                raise ConfigError(f"{cls.__name__} lacks the key '{key}'")
        built = dict(fields)
        if isinstance(fields["decoder"], dict):
            built["decoder"] = DecoderConfig.from_dict(fields["decoder"])
        if isinstance(fields["vision"], dict):
            built["vision"] = VisionConfig.from_dict(fields["vision"])
        return super().from_dict(built)

    @property
    def tokens_per_chunk(self) -> int:
        """Decoder tokens of one picture, tile or frame at the tower's own size (spec 1.2)."""
        return (self.vision.grid_size // self.pooling_ratio) ** 2


def default_image_token_id(vocab_size: int) -> int:
    """The image token where a format does not name it: the 256 special tokens are the last of the vocabulary."""
    return vocab_size - NUM_SPECIAL_TOKENS + _IMAGE_TOKEN


@dataclass(frozen=True)
class PerceptionLMPreprocessing(Config):
    """How pictures and videos become chunks (spec 4 and 5).

    Attributes:
        tile_size: side of a chunk in pixels.
        vision_input_type: `thumb+tile` cuts a picture into tiles behind a thumbnail, `vanilla` squashes it into one.
        max_num_tiles: tiles a picture may get, the thumbnail not counted.
        max_video_frames: frames the model was trained with.
    """

    tile_size: int = 448
    vision_input_type: Literal["thumb+tile", "vanilla"] = "thumb+tile"
    max_num_tiles: int = 36
    max_video_frames: int = 32
    mean: tuple[float, float, float] = (0.5, 0.5, 0.5)
    std: tuple[float, float, float] = (0.5, 0.5, 0.5)

    def __post_init__(self) -> None:
        for name in ("mean", "std"):  # JSON has lists only
            object.__setattr__(self, name, tuple(getattr(self, name)))
        for name in ("tile_size", "max_num_tiles", "max_video_frames"):
            value = getattr(self, name)
            self._require(isinstance(value, int) and value > 0, f"{name} must be a positive integer, not {value!r}")
        self._require(
            self.vision_input_type in ("thumb+tile", "vanilla"),
            f"vision_input_type must be thumb+tile or vanilla, not {self.vision_input_type!r}",
        )


def _llama(**fields: Any) -> DecoderConfig:
    return DecoderConfig(vocab_size=128256, rope_theta=500000.0, **fields)


def _tower(**fields: Any) -> VisionConfig:
    return VisionConfig(
        **{
            "image_size": 448,
            "patch_size": 14,
            "heads": 16,
            "ls_init_value": 0.1,
            "drop_path": 0.1,
            "pool_type": "none",
            "use_ln_post": False,
            **fields,
        }
    )


_LARGE_TOWER = _tower(width=1024, layers=23, use_cls_token=True)
_GIGANTIC_TOWER = _tower(width=1536, layers=47, mlp_ratio=5.833333334)
_SCALED_ROPE: dict[str, Any] = {"rope_scale_factor": 32, "high_freq_factor": 4, "weight_tying": True}

PLM_CONFIGS: dict[str, PerceptionLMConfig] = {
    "Perception-LM-1B": PerceptionLMConfig(
        _llama(dim=2048, n_layers=16, n_heads=32, n_kv_heads=8, ffn_dim_multiplier=1.5, **_SCALED_ROPE), _LARGE_TOWER
    ),
    "Perception-LM-3B": PerceptionLMConfig(
        _llama(dim=3072, n_layers=28, n_heads=24, n_kv_heads=8, ffn_dim_multiplier=1.0, **_SCALED_ROPE), _LARGE_TOWER
    ),
    # The recipe of the 8B names no RoPE scaling; its checkpoint's own file decides when weights are loaded (1.3).
    "Perception-LM-8B": PerceptionLMConfig(
        _llama(dim=4096, n_layers=32, n_heads=32, n_kv_heads=8, ffn_dim_multiplier=1.3, multiple_of=1024),
        _GIGANTIC_TOWER,
    ),
    # The tower is PE-Core-Nano whole, its last norm included: the decoder learns faster from even features. Its 64
    # patches are too few to pool: four together would hold several of the world's objects.
    "PLM-Nano": PerceptionLMConfig(
        DecoderConfig(
            dim=256,
            n_layers=5,
            n_heads=4,
            n_kv_heads=2,
            vocab_size=2048,
            ffn_dim_multiplier=1.0,
            multiple_of=64,
            max_seqlen=4096,
            weight_tying=True,
        ),
        _tower(
            image_size=64,
            patch_size=8,
            width=192,
            layers=6,
            heads=3,
            use_cls_token=True,
            use_ln_post=True,
            ls_init_value=None,
            drop_path=0.0,
        ),
        pooling_ratio=1,
        image_token_id=default_image_token_id(2048),
    ),
}


def plm_config(name: str) -> PerceptionLMConfig:
    """The PerceptionLM of a zoo name. Raises ConfigError naming the nearest known name."""
    return named_entry(PLM_CONFIGS, name, "PerceptionLM model")
