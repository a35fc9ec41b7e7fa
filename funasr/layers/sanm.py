"""SAN-M blocks: self-attention with a feed-forward sequential memory (FSMN) beside it.

Gao et al., "SAN-M: Memory Equipped Self-Attention for End-to-End Speech Recognition", 2020.  The memory is a depth-wise
convolution over time plus identity.  Encoder blocks add it to self-attention; decoder blocks have it instead of
self-attention.  Masks are bool, True = valid.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from funasr.layers.attention import scaled_attention
from funasr.layers.feed_forward import PositionwiseFeedForward
from funasr.layers.frame_conv import frame_conv
from funasr.layers.layer_norm import LayerNorm
from funasr.layers.linear import linear_relu, plus
from funasr.layers.mask import padding_mask
from funasr.layers.packing import Packing, packed, unpacked
from funasr.utils.errors import ConfigError


def position_table(frames: int, dim: int, device: torch.device | str | None = None, first: int = 1) -> Tensor:
    """Sinusoids of positions `first`, `first` + 1, ...: (frames, dim) float32, all sines before all cosines.

    Rates run geometrically from 1 to exactly 1 / 10000 over dim / 2 values.
    """
    if dim % 2 or dim < 4:
        raise ConfigError(f"input_layer pe needs an even feature dimension of at least 4, not {dim}")
    half = dim // 2
    rates = torch.exp(torch.arange(half, dtype=torch.float32, device=device) * -(math.log(10000.0) / (half - 1)))
    angles = torch.arange(first, first + frames, dtype=torch.float32, device=device)[:, None] * rates
    return torch.cat([angles.sin(), angles.cos()], dim=1)


class FsmnBlock(nn.Conv1d):
    """The memory: depth-wise convolution over time plus identity, (batch, frames, dim) -> same shape.

    Args:
        dim: channels.
        kernel_size: frames of the kernel.
        shift: frames by which the kernel looks further back than centred; (kernel_size - 1) // 2 makes it causal.
    """

    def __init__(self, dim: int, kernel_size: int, shift: int = 0) -> None:
        super().__init__(dim, dim, kernel_size, groups=dim, bias=False)
        self.left = (kernel_size - 1) // 2 + max(shift, 0)
        self.right = kernel_size - 1 - self.left
        if self.right < 0:
            raise ConfigError(f"sanm_shfit {shift} is too large for kernel_size {kernel_size}")

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Memory of x (batch, frames, dim); frames outside mask (batch, frames) are neither read nor written."""
        if mask is None:
            return plus(self._convolve(x, self.left, self.right), x)
        x = _silenced(x, mask)
        return _silenced(plus(self._convolve(x, self.left, self.right), x), mask)

    def step(self, x: Tensor, window: Tensor) -> tuple[Tensor, Tensor]:
        """Memory of one new frame x (batch, 1, dim).

        Args:
            window: (batch, kernel_size, dim) as the step before returned it, or (batch, 0, dim) at the first step.

        Returns:
            memory (batch, 1, dim) and the new window.  A causal kernel gives what `forward` gives.  Of a kernel that
            looks ahead, released models in step-by-step search keep the zeros they padded to the right of the first
            frame and go on behind them; so does this.
        """
        if window.size(1) == 0:
            window = F.pad(x, (0, 0, self.left, self.right))
        else:
            window = torch.cat([window[:, 1:], x], dim=1)
        return self._convolve(window, 0, 0) + x, window

    def _convolve(self, x: Tensor, left: int, right: int) -> Tensor:
        if left != right:
            x, left = F.pad(x, (0, 0, left, right)), 0
        return frame_conv(x, self.weight, padding=left, groups=self.groups)


class SANMAttention(nn.Module):
    """Self-attention plus the memory of its values: (batch, frames, in_dim) -> (batch, frames, dim)."""

    def __init__(
        self, heads: int, in_dim: int, dim: int, dropout: float = 0.0, kernel_size: int = 11, shift: int = 0
    ) -> None:
        super().__init__()
        _check_heads(heads, dim)
        self.heads = heads
        self.linear_q_k_v = nn.Linear(in_dim, 3 * dim)
        self.linear_out = nn.Linear(dim, dim)
        self.fsmn_block = FsmnBlock(dim, kernel_size, shift)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, mask: Tensor | None, packing: Packing | None = None) -> Tensor:
        """Attend from each frame of x (batch, frames, in_dim), or (1, rows, in_dim) if there is a `packing`, to others.

        Args:
            mask: bool (batch, frames), frames outside of it have no influence; or (batch, frames, frames), which says
                for each frame what it sees, always itself if it is none of the padding; or None.
        """
        query, key, value = unpacked(self.linear_q_k_v(x), packing).chunk(3, dim=-1)
        visible = mask[:, None] if mask is not None and mask.dim() == 2 else mask
        inside = mask.diagonal(dim1=1, dim2=2) if mask is not None and mask.dim() == 3 else mask
        memory = self.dropout(self.fsmn_block(value, inside))
        heads = scaled_attention(
            _split_heads(query, self.heads),
            _split_heads(key, self.heads),
            _split_heads(value, self.heads),
            visible,
            dropout=self.dropout.p if self.training else 0.0,
        )
        attended = packed(heads.transpose(1, 2).flatten(2), packing)
        return plus(self.linear_out(attended), packed(memory, packing))


class SANMEncoderLayer(nn.Module):
    """SANMAttention and a feed-forward block, each with layer norm and residual connection.

    A block that changes the width (in_dim != dim) has no residual around its attention.
    """

    def __init__(
        self,
        in_dim: int,
        dim: int,
        heads: int,
        hidden: int,
        kernel_size: int = 11,
        shift: int = 0,
        dropout: float = 0.1,
        attention_dropout: float = 0.0,
        normalize_before: bool = True,
    ) -> None:
        super().__init__()
        self.self_attn = SANMAttention(heads, in_dim, dim, attention_dropout, kernel_size, shift)
        self.feed_forward = PositionwiseFeedForward(dim, hidden, dropout)
        self.norm1 = LayerNorm(in_dim if normalize_before else dim)
        self.norm2 = LayerNorm(dim)
        self.dropout = nn.Dropout(dropout)
        self.normalize_before = normalize_before
        self.residual = in_dim == dim

    def forward(self, x: Tensor, mask: Tensor | None, packing: Packing | None = None) -> Tensor:
        """(batch, frames, in_dim) -> (batch, frames, dim), both without padding if there is a `packing`.

        mask: see SANMAttention.
        """
        attended = self.dropout(self.self_attn(self.norm1(x) if self.normalize_before else x, mask, packing))
        x = plus(attended, x) if self.residual else attended
        if self.normalize_before:
            return plus(self.dropout(self.feed_forward(self.norm2(x))), x)
        x = self.norm1(x)
        return self.norm2(x + self.dropout(self.feed_forward(x)))


class SANMDecoderFeedForward(nn.Module):
    """w_2(norm(dropout(relu(w_1(x))))): layer norm over the hidden units, no second bias."""

    def __init__(self, dim: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.w_1 = nn.Linear(dim, hidden)
        self.w_2 = nn.Linear(hidden, dim, bias=False)
        self.norm = LayerNorm(hidden)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        return self.w_2(self.norm(self.dropout(linear_relu(self.w_1, x))))


class DecoderMemory(nn.Module):
    """The memory block in the place of decoder self-attention."""

    def __init__(self, dim: int, kernel_size: int, shift: int, dropout: float) -> None:
        super().__init__()
        self.fsmn_block = FsmnBlock(dim, kernel_size, shift)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        return self.dropout(self.fsmn_block(x, mask))


class CrossAttention(nn.Module):
    """Attention of tokens to encoder output, keys and values from one projection."""

    def __init__(self, heads: int, dim: int, memory_dim: int, dropout: float) -> None:
        super().__init__()
        _check_heads(heads, dim)
        self.heads = heads
        self.linear_q = nn.Linear(dim, dim)
        self.linear_k_v = nn.Linear(memory_dim, 2 * dim)
        self.linear_out = nn.Linear(dim, dim)
        self.dropout = dropout

    def keys_values(self, memory: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values of memory (batch, frames, memory_dim), (batch, heads, frames, dim / heads) each."""
        key, value = self.linear_k_v(memory).chunk(2, dim=-1)
        return _split_heads(key, self.heads), _split_heads(value, self.heads)

    def forward(self, x: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None) -> Tensor:
        """x (batch, tokens, dim), projected memory, mask (batch, 1 or tokens, frames) -> (batch, tokens, dim)."""
        query = _split_heads(self.linear_q(x), self.heads)
        heads = scaled_attention(query, keys, values, mask, dropout=self.dropout if self.training else 0.0)
        return self.linear_out(heads.transpose(1, 2).flatten(2))


class SANMDecoderLayer(nn.Module):
    """Feed-forward, memory and, if `memory_dim` is given, attention to encoder output of that width."""

    def __init__(
        self,
        dim: int,
        heads: int,
        hidden: int,
        kernel_size: int,
        shift: int,
        memory_dim: int | None,
        dropout: float = 0.1,
        self_attention_dropout: float = 0.0,
        src_attention_dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.self_attn = DecoderMemory(dim, kernel_size, shift, self_attention_dropout)
        self.feed_forward = SANMDecoderFeedForward(dim, hidden, dropout)
        self.norm1 = LayerNorm(dim)
        self.norm2 = LayerNorm(dim)
        self.src_attn: CrossAttention | None = None
        if memory_dim is not None:
            self.src_attn = CrossAttention(heads, dim, memory_dim, src_attention_dropout)
            self.norm3 = LayerNorm(dim)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, mask: Tensor | None, memory: Tensor, memory_mask: Tensor | None) -> Tensor:
        """x (batch, tokens, dim), its mask (batch, tokens), encoder output, its mask (batch, 1, frames) -> as x.

        A mask is None where nothing is padding.
        """
        x = x + self.dropout(self.self_attn(self.norm2(self.feed_forward(self.norm1(x))), mask))
        if self.src_attn is None:
            return x
        return self._cross(x, *self.src_attn.keys_values(memory), memory_mask)

    def step(
        self, x: Tensor, window: Tensor, cross: tuple[Tensor, Tensor] | None, memory_mask: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """The block for one new token x (batch, 1, dim), see FsmnBlock.step; `cross` = projected keys and values."""
        fed, window = self.self_attn.fsmn_block.step(self.norm2(self.feed_forward(self.norm1(x))), window)
        x = x + fed
        return (x if cross is None else self._cross(x, *cross, memory_mask)), window

    def _cross(self, x: Tensor, keys: Tensor, values: Tensor, memory_mask: Tensor | None) -> Tensor:
        assert self.src_attn is not None
        return x + self.dropout(self.src_attn(self.norm3(x), keys, values, memory_mask))


class SANMOutputLayer(nn.Module):
    """The last decoder block: layer norm and feed-forward, without residual."""

    def __init__(self, dim: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.norm1 = LayerNorm(dim)
        self.feed_forward = SANMDecoderFeedForward(dim, hidden, dropout)

    def forward(self, x: Tensor) -> Tensor:
        return self.feed_forward(self.norm1(x))


class SANMDecoderStack(nn.Module):
    """What all SAN-M decoders share: blocks with and without cross attention, the last block, embedding and output.

    Args:
        vocab_size: number of tokens.
        encoder_output_size: width of the encoder output, and of the decoder unless `attention_dim` says otherwise.
        linear_units: hidden units of the feed-forward blocks.
        use_output_layer: whether there are token scores; without them `forward` gives hidden vectors.
        wo_input_layer: leave out `embed`, the token embeddings.
        att_layer_num: blocks with cross attention; `num_blocks` - `att_layer_num` more (if positive) have none.
        kernel_size: tokens of the memories.
        sanm_shfit: shift of the memories of blocks with cross attention, see FsmnBlock; null makes them causal.
    """

    shifts_all: ClassVar[bool] = False
    """Whether `sanm_shfit` holds for the blocks without cross attention too; else those look as far ahead as back."""

    def __init__(
        self,
        vocab_size: int,
        encoder_output_size: int,
        attention_heads: int = 4,
        linear_units: int = 2048,
        num_blocks: int = 6,
        dropout_rate: float = 0.1,
        self_attention_dropout_rate: float = 0.0,
        src_attention_dropout_rate: float = 0.0,
        use_output_layer: bool = True,
        wo_input_layer: bool = False,
        att_layer_num: int = 6,
        kernel_size: int = 21,
        sanm_shfit: int | None = 0,
        attention_dim: int | None = None,
    ) -> None:
        super().__init__()
        dim = encoder_output_size if attention_dim is None else attention_dim
        shift = (kernel_size - 1) // 2 if sanm_shfit is None else sanm_shfit
        shape = (dim, attention_heads, linear_units, kernel_size)
        rates = (dropout_rate, self_attention_dropout_rate, src_attention_dropout_rate)
        self.decoders = nn.ModuleList(
            SANMDecoderLayer(*shape, shift, encoder_output_size, *rates) for _ in range(att_layer_num)
        )
        if num_blocks > att_layer_num:
            own_shift = shift if self.shifts_all else 0
            self.decoders2 = nn.ModuleList(
                SANMDecoderLayer(*shape, own_shift, None, *rates) for _ in range(num_blocks - att_layer_num)
            )
        self.decoders3 = nn.ModuleList([SANMOutputLayer(dim, linear_units, dropout_rate)])
        self.after_norm = LayerNorm(dim)
        self.embed: Any = None if wo_input_layer else nn.Sequential(nn.Embedding(vocab_size, dim))
        self.output_layer: Any = nn.Linear(dim, vocab_size) if use_output_layer else None

    @property
    def blocks(self) -> list[SANMDecoderLayer]:
        """All blocks before the last one, in order."""
        return [*self.decoders, *getattr(self, "decoders2", ())]

    def hidden(self, memory: Tensor, memory_lengths: Tensor, x: Tensor, x_lengths: Tensor) -> Tensor:
        """Output after the last layer norm, (batch, tokens, dim).

        Args:
            memory: encoder output (batch, frames, memory_dim); memory_lengths: (batch,).
            x: (batch, tokens, dim); x_lengths: (batch,).
        """
        mask = padding_mask(x_lengths, x.size(1))
        memory_mask = padding_mask(memory_lengths, memory.size(1))
        if memory_mask is not None:
            memory_mask = memory_mask[:, None]
        for block in self.blocks:
            x = block(x, mask, memory, memory_mask)
        return self.after_norm(self.decoders3[0](x))


def _silenced(x: Tensor, mask: Tensor) -> Tensor:
    """x (batch, frames, dim) with zeros outside mask (batch, frames)."""
    if torch.is_grad_enabled() or x.device.type != "cpu":
        return x.masked_fill(~mask[..., None], 0.0)  # whatever padding holds: float16 may overflow there
    return x * mask[..., None]  # a fifth of the time


def _split_heads(x: Tensor, heads: int) -> Tensor:
    """(batch, length, dim) -> (batch, heads, length, dim / heads), a view."""
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)


def _check_heads(heads: int, dim: int) -> None:
    if dim % heads:
        raise ConfigError(f"{heads} attention heads do not divide the width {dim}")
