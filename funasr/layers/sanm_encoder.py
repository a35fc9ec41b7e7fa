"""What the SAN-M encoders that read features or embeddings as they are share: positions, options and blocks."""

from __future__ import annotations

import math

from torch import Tensor, nn

from funasr.layers.sanm import SANMEncoderLayer, position_table
from funasr.utils.errors import ConfigError


class SANMEncoderStack(nn.Module):
    """Blocks of self-attention with FSMN memory (Gao et al., "SAN-M", 2020) over an input without sub-sampling.

    Args:
        input_size: width of the input, even; only the first block changes it.
        output_size: width of the blocks; attention_heads must divide it.
        linear_units: hidden units of the feed-forward blocks.
        input_layer: `pe`, sinusoids added to the input, is the only one.
        kernel_size: frames of the FSMN memory; sanm_shfit: by how many it looks further back than centred,
            (kernel_size - 1) // 2 for a memory that does not look ahead.
    """

    def __init__(
        self,
        input_size: int,
        output_size: int = 256,
        attention_heads: int = 4,
        linear_units: int = 2048,
        num_blocks: int = 6,
        dropout_rate: float = 0.1,
        attention_dropout_rate: float = 0.0,
        input_layer: str = "pe",
        normalize_before: bool = True,
        kernel_size: int = 11,
        sanm_shfit: int = 0,
    ) -> None:
        super().__init__()
        if input_layer != "pe":
            raise ConfigError(f"encoder_conf: input_layer of {type(self).__name__} must be 'pe', not '{input_layer}'")
        self._output_size = output_size
        shape = (output_size, attention_heads, linear_units, kernel_size, sanm_shfit)
        rates = (dropout_rate, attention_dropout_rate, normalize_before)
        self.encoders0 = nn.ModuleList([SANMEncoderLayer(input_size, *shape, *rates)])
        self.encoders = nn.ModuleList(SANMEncoderLayer(output_size, *shape, *rates) for _ in range(num_blocks - 1))

    def output_size(self) -> int:
        return self._output_size

    def with_positions(self, xs: Tensor) -> Tensor:
        """What the first block reads of xs (batch, frames, input_size)."""
        # In float32: features that are tens wide would swallow the positions in half precision.
        scaled = xs.float() * math.sqrt(self._output_size) + position_table(xs.size(1), xs.size(2), xs.device)
        return scaled.to(xs.dtype)
