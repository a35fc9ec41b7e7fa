"""The audio branch of emotion2vec: from samples to frames that the common blocks take."""

from __future__ import annotations

import ast
import logging
from collections.abc import Mapping
from dataclasses import dataclass, fields
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from funasr.models.emotion2vec.layers import Block, SwapAxes, WaveEncoder, alibi_bias, position_encoder
from funasr.utils.errors import ConfigError

logger = logging.getLogger(__name__)

_PRE_TRAINING = """
    type prenet_layerdrop prenet_dropout start_drop_path_rate end_drop_path_rate init_extra_token_zero mask_noise_std
    mask_prob_min mask_prob inverse_mask mask_prob_adjust keep_masked_pct mask_length add_masks remove_masks
    mask_dropout encoder_zero_mask mask_channel_prob mask_channel_length ema_local_encoder local_grad_mult
    alibi_max_pos learned_alibi extractor_mode
"""
TRAINING_ONLY = frozenset(_PRE_TRAINING.split())
"""Options of the branch in released configurations that say how it was trained."""


@dataclass(frozen=True)
class AudioOptions:
    """`model_conf.modalities.audio`: names and defaults of released configurations."""

    prenet_depth: int = 4
    num_extra_tokens: int = 0
    use_alibi_encoder: bool = False
    alibi_scale: float = 1.0
    learned_alibi_scale: bool = False
    learned_alibi_scale_per_head: bool = False
    learned_alibi_scale_per_layer: bool = False
    num_alibi_heads: int = 12
    model_depth: int = 8
    feature_encoder_spec: str = "[(512, 10, 5)] + [(512, 3, 2)] * 4 + [(512,2,2)] + [(512,2,2)]"
    conv_pos_width: int = 95
    conv_pos_groups: int = 16
    conv_pos_depth: int = 5
    conv_pos_pre_ln: bool = False
    decoder: Mapping[str, Any] | None = None

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> AudioOptions:
        """The options in `config`; unknown ones are named in a warning, those of training are passed over."""
        known = {field.name for field in fields(cls)}
        unknown = sorted(set(config) - known - TRAINING_ONLY)
        if unknown:
            logger.warning("model_conf.modalities.audio: %s: no such option, left out", ", ".join(unknown))
        return cls(**{name: value for name, value in config.items() if name in known and value is not None})


def parse_conv_spec(text: str) -> list[tuple[int, int, int]]:
    """The convolutions in an expression such as "[(512, 10, 5)] + [(512, 3, 2)] * 4"; nothing is executed.

    Returns: (channels, kernel, stride) of each.  Raises ConfigError if it is more than sums and repetitions of lists.
    """

    def value(node: ast.expr) -> list[Any]:
        if isinstance(node, ast.List):
            return list(ast.literal_eval(node))
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
            return value(node.left) + value(node.right)
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mult) and isinstance(node.right, ast.Constant):
            return value(node.left) * int(node.right.value)  # type: ignore[arg-type]
        raise ValueError("not a list, a sum of lists or a list times a number")

    try:
        found = [tuple(int(number) for number in entry) for entry in value(ast.parse(text.strip(), mode="eval").body)]
        return [(channels, kernel, stride) for channels, kernel, stride in found]
    except (ValueError, TypeError, SyntaxError) as error:
        raise ConfigError(f"model_conf: feature_encoder_spec {text!r} is not a list of convolutions: {error}") from None


class ContextEncoder(nn.Module):
    """The blocks of the branch; with norms behind the blocks, one more norm before all of them."""

    def __init__(self, blocks: nn.ModuleList, norm: nn.Module) -> None:
        super().__init__()
        self.blocks = blocks
        self.norm = norm


class TrainingDecoder(nn.Module):
    """Weights of the decoder that pre-training needs; kept so that a released state dict fits, never run."""

    def __init__(self, dim: int, decoder_dim: int, groups: int, kernel: int, layers: int) -> None:
        super().__init__()
        sizes = [dim] + [decoder_dim] * layers
        convs = [nn.Conv1d(a, b, kernel, padding=kernel // 2, groups=groups) for a, b in pairwise(sizes)]
        self.blocks = nn.Sequential(*(nn.Sequential(conv) for conv in convs))
        self.proj = nn.Linear(decoder_dim, dim)

    @classmethod
    def from_config(cls, dim: int, config: Mapping[str, Any]) -> TrainingDecoder:
        return cls(dim, *(int(config[f"decoder_{name}"]) for name in ("dim", "groups", "kernel", "layers")))


class AudioEncoder(nn.Module):
    """Convolutions, positions, extra tokens and the first blocks.

    Args:
        options: of the branch.
        dim, heads, mlp_ratio, norm_eps, norm_affine, norm_first: of all blocks of the model.
    """

    alibi_scale: Tensor | None

    def __init__(
        self,
        options: AudioOptions,
        dim: int,
        heads: int,
        mlp_ratio: float,
        norm_eps: float,
        norm_affine: bool,
        norm_first: bool,
    ) -> None:
        super().__init__()
        self.options = options
        spec = parse_conv_spec(options.feature_encoder_spec)
        self.local_encoder = WaveEncoder(spec)
        channels = spec[-1][0]
        self.project_features = nn.Sequential(SwapAxes(), nn.LayerNorm(channels), nn.Linear(channels, dim))
        self.relative_positional_encoder = position_encoder(
            dim, options.conv_pos_width, options.conv_pos_depth, options.conv_pos_groups, options.conv_pos_pre_ln
        )
        self.extra_tokens = (
            nn.Parameter(torch.zeros(1, options.num_extra_tokens, dim)) if options.num_extra_tokens else None
        )
        self.register_parameter("alibi_scale", self._alibi_scale(options))
        block = (dim, heads, mlp_ratio, norm_eps, norm_affine, norm_first)
        blocks = nn.ModuleList(Block(*block) for _ in range(options.prenet_depth))
        self.context_encoder = ContextEncoder(
            blocks, nn.Identity() if norm_first else nn.LayerNorm(dim, norm_eps, norm_affine)
        )
        self.decoder = TrainingDecoder.from_config(dim, options.decoder) if options.decoder else None

    @staticmethod
    def _alibi_scale(options: AudioOptions) -> nn.Parameter | None:
        if not options.use_alibi_encoder:
            return None
        layers = options.prenet_depth + options.model_depth if options.learned_alibi_scale_per_layer else 1
        heads = options.num_alibi_heads if options.learned_alibi_scale_per_head else 1
        scale = torch.full((layers, 1, heads, 1, 1), float(options.alibi_scale))
        return nn.Parameter(scale, requires_grad=options.learned_alibi_scale)

    def attention_bias(self, bias: Tensor | None, layer: int) -> Tensor | None:
        """The distance bias of one layer, counted through the branch and the blocks behind it."""
        if bias is None or self.alibi_scale is None:
            return None
        scale = self.alibi_scale[layer if self.alibi_scale.size(0) > 1 else 0, 0]
        return bias * scale.clamp(min=0)

    def forward(self, waves: Tensor) -> tuple[Tensor, Tensor | None]:
        """(batch, samples) -> (batch, extra tokens + frames, dim) and the unscaled distance bias, None without one."""
        x = self.project_features(self.local_encoder(waves))
        x = x + self.relative_positional_encoder(x)
        extra = 0
        if self.extra_tokens is not None:
            extra = self.extra_tokens.size(1)
            x = torch.cat((self.extra_tokens.expand(x.size(0), -1, -1), x), dim=1)
        bias = None
        if self.alibi_scale is not None:
            bias = alibi_bias(self.options.num_alibi_heads, x.size(1) - extra, extra, x.device)
        x = self.context_encoder.norm(x)
        for i, block in enumerate(self.context_encoder.blocks):
            x = block(x, self.attention_bias(bias, i))
        return x, bias
