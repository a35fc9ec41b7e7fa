"""The encoder of SenseVoiceSmall: two stacks of SAN-M blocks, one after the other."""

from __future__ import annotations

import math

from torch import Tensor, nn

from funasr.layers.layer_norm import LayerNorm
from funasr.layers.mask import length_mask
from funasr.layers.sanm import SANMEncoderLayer, position_table
from funasr.register import tables
from funasr.utils.errors import ConfigError

NORM_EPS = 1e-5  # released SenseVoice weights know this one, other SAN-M models 1e-12


@tables.register("encoder_classes", "SenseVoiceEncoderSmall")
class SenseVoiceEncoderSmall(nn.Module):
    """Blocks of self-attention with FSMN memory (Gao et al., "SAN-M", 2020), a layer norm after each of two stacks.

    Args:
        input_size: feature dimension, even; only the first block changes the width.
        output_size: width of the blocks; attention_heads must divide it.
        linear_units: hidden units of the feed-forward blocks.
        num_blocks, tp_blocks: blocks of the first and of the second stack.
        input_layer: `pe`, sinusoids added to the features, is the only one.
        kernel_size: frames of the FSMN memory; sanm_shfit: by how many it looks further back than centred.
    """

    def __init__(
        self,
        input_size: int,
        output_size: int = 256,
        attention_heads: int = 4,
        linear_units: int = 2048,
        num_blocks: int = 6,
        tp_blocks: int = 0,
        dropout_rate: float = 0.1,
        attention_dropout_rate: float = 0.0,
        input_layer: str = "pe",
        normalize_before: bool = True,
        kernel_size: int = 11,
        sanm_shfit: int = 0,
    ) -> None:
        super().__init__()
        if input_layer != "pe":
            raise ConfigError(f"encoder_conf: input_layer of SenseVoiceEncoderSmall must be 'pe', not '{input_layer}'")
        self._output_size = output_size
        shape = (output_size, attention_heads, linear_units, kernel_size, sanm_shfit)
        rates = (dropout_rate, attention_dropout_rate, normalize_before)
        self.encoders0 = nn.ModuleList([SANMEncoderLayer(input_size, *shape, *rates)])
        self.encoders = nn.ModuleList(SANMEncoderLayer(output_size, *shape, *rates) for _ in range(num_blocks - 1))
        self.tp_encoders = nn.ModuleList(SANMEncoderLayer(output_size, *shape, *rates) for _ in range(tp_blocks))
        self.after_norm = LayerNorm(output_size)
        self.tp_norm = LayerNorm(output_size)
        for module in self.modules():
            if isinstance(module, LayerNorm):
                module.eps = NORM_EPS

    def output_size(self) -> int:
        return self._output_size

    def forward(self, xs: Tensor, xs_lengths: Tensor, isolate: bool = False) -> tuple[Tensor, Tensor, list[Tensor]]:
        """Encode features xs (batch, frames, input_size) with xs_lengths (batch,).

        Padding never reaches a valid frame, so `isolate` makes no difference.

        Returns:
            output (batch, frames, output_size), xs_lengths, no intermediate outputs.
        """
        # In float32: features that are tens wide would swallow the positions in half precision.
        scaled = xs.float() * math.sqrt(self._output_size) + position_table(xs.size(1), xs.size(2), xs.device)
        hidden = scaled.to(xs.dtype)
        mask = length_mask(xs_lengths, xs.size(1))
        for block in (*self.encoders0, *self.encoders):
            hidden = block(hidden, mask)
        hidden = self.after_norm(hidden)
        for block in self.tp_encoders:
            hidden = block(hidden, mask)
        return self.tp_norm(hidden), xs_lengths, []
