"""Continuous integrate-and-fire: from encoder frames to one vector per token.

Dong and Xu, "CIF: Continuous Integrate-and-Fire for End-to-End Speech Recognition", 2020.  Each frame gets a weight
alpha between 0 and 1; weights add up along time, and each time the sum passes a whole number a token fires: its
vector is the weighted sum of the frames since the last fire.  A frame at a fire is split between both tokens.
"""

from __future__ import annotations

from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from funasr.layers.attention import MultiHeadedAttention
from funasr.layers.feed_forward import PositionwiseFeedForward
from funasr.layers.layer_norm import LayerNorm
from funasr.layers.timestamps import FIRE
from funasr.register import tables
from funasr.utils.errors import ConfigError
from funasr.utils.signature import extends

ROUNDING = 1e-6  # weights scaled to sum to n may sum to a little less


class CifOutput(NamedTuple):
    """What a predictor returns.

    embeds: (batch, tokens, dim) acoustic embeddings, zero beyond each utterance's tokens.
    token_num: (batch,) float32.  With target lengths: the unscaled sum of weights (for the length loss).  Without: the
        number of tokens that fired, or the sum of weights if the predictor has no tail (`tail_threshold: 0`).
    alphas: (batch, frames) weights, one frame more if there is a tail.
    peaks: same shape; the integrator before a fire is taken off it: at least `threshold` exactly where a token fires.
    """

    embeds: Tensor
    token_num: Tensor
    alphas: Tensor
    peaks: Tensor


def integrate_and_fire(
    hidden: Tensor, alphas: Tensor, tokens: Tensor, rows: int, threshold: float = 1.0, force: bool = False
) -> tuple[Tensor, Tensor]:
    """Token vectors and integrator curve, without a loop over frames.

    With P_t the sum of weights up to frame t, token i = 1, 2, ... fires at the first t_i where P_t >= i - 1 + threshold
    (the integrator reaches `threshold`, then 1 is taken off).  It has the weights alpha_t up to t_i, cut there so
    that they sum to i, less those of tokens before.  So each token's weights sum to exactly 1.

    Args:
        hidden: (batch, frames, dim) float32; alphas: (batch, frames) float32 or float64, zero on padding.
        tokens: (batch,) how many tokens each utterance may have; rows: size of the token axis of the result.
        force: the weights sum to `tokens`, so all of them fire, whatever rounding says; otherwise a token whose level
            is not reached is zero.

    Returns:
        embeds (batch, rows, dim), peaks (batch, frames).
    """
    total = alphas.double().cumsum(dim=1)  # float32 would misplace fires of long utterances
    first_level = threshold - (ROUNDING if force else 0.0)
    fired = (total.detach() - first_level + 1.0).floor().clamp(min=0.0)
    alphas = alphas.to(hidden.dtype)
    peaks = total - F.pad(fired, (1, 0))[:, :-1]
    if rows == 0 or alphas.size(1) == 0:
        return hidden.new_zeros(hidden.size(0), rows, hidden.size(2)), peaks.to(alphas.dtype)
    number = torch.arange(1, rows + 1, device=alphas.device)
    level = (number - 1 + first_level).to(total.dtype).expand(hidden.size(0), rows)
    fire_frame = torch.searchsorted(total.detach().contiguous(), level.contiguous())
    exists = number <= tokens[:, None]
    if not force:
        exists = exists & (fire_frame < alphas.size(1))
    fire_frame = fire_frame.clamp(max=alphas.size(1) - 1)[..., None]
    # Weights up to and with token i, (batch, rows, frames).
    before = torch.arange(alphas.size(1), device=alphas.device) < fire_frame
    share = alphas.gather(1, fire_frame[..., 0]) - (total.gather(1, fire_frame[..., 0]) - number).to(alphas.dtype)
    upto = (alphas[:, None] * before).scatter(2, fire_frame, share[..., None])
    weights = torch.diff(upto, dim=1, prepend=torch.zeros_like(upto[:, :1]))
    weights = weights.masked_fill(~exists[..., None], 0.0)
    return torch.bmm(weights, hidden), peaks.to(alphas.dtype)


def integrator_curve(alphas: Tensor, threshold: float) -> Tensor:
    """The integrator before each fire, if `threshold` (not 1) is taken off it where it reaches `threshold`.

    Args:
        alphas: (batch, frames) weights.

    Returns:
        Same shape, at least `threshold` exactly where it fires.
    """
    total = alphas.double().cumsum(dim=1) / threshold
    fired = total.floor()
    return ((total - F.pad(fired, (1, 0))[:, :-1]) * threshold).to(alphas.dtype)


def cif_length_loss(token_num: Tensor, target_lengths: Tensor, normalize_length: bool = False) -> Tensor:
    """|target length - sum of weights| summed over the batch, divided by its size or by its labels; scalar."""
    targets = target_lengths.to(token_num.dtype)
    distance = (targets - token_num).abs().sum()
    return distance / (targets.sum() if normalize_length else max(targets.numel(), 1))


class _Predictor(nn.Module):
    """Weights from a convolution over frames, then integrate-and-fire.  Always computed in float32.

    Args:
        idim: width of the encoder output.
        l_order, r_order: frames the convolution sees to the left and right.
        threshold: integrator value at which a token fires.
        dropout: on the convolution output.
        smooth_factor, noise_threshold: alpha = relu(sigmoid(.) * smooth_factor - noise_threshold).
        tail_threshold: weight of one more, silent frame after each utterance's last, at inference; it lets a last token
            fire that is nearly complete.  0: no such frame.
    """

    depthwise: ClassVar[bool] = False
    """Whether the convolution keeps the channels apart."""

    def __init__(
        self,
        idim: int,
        l_order: int = 1,
        r_order: int = 1,
        threshold: float = 1.0,
        smooth_factor: float = 1.0,
        noise_threshold: float = 0.0,
        tail_threshold: float = 0.0,
    ) -> None:
        super().__init__()
        self.cif_conv1d = nn.Conv1d(idim, idim, l_order + r_order + 1, groups=idim if self.depthwise else 1)
        self.cif_output = nn.Linear(idim, 1)
        self.l_order = l_order
        self.r_order = r_order
        self.threshold = threshold
        self.smooth_factor = smooth_factor
        self.noise_threshold = noise_threshold
        self.tail_threshold = tail_threshold

    def forward(self, hidden: Tensor, target_lengths: Tensor | None = None, mask: Tensor | None = None) -> CifOutput:
        """Acoustic embeddings of encoder output.

        Args:
            hidden: encoder output (batch, frames, dim).
            target_lengths: (batch,) true token numbers, in training.  Weights are scaled to sum to them, so exactly so
                many tokens fire; padding is left as it is, as in recorded trainings.  None at inference: padding is
                zeroed, so that an utterance's result does not depend on the batch, and the tail is added.
            mask: bool (batch, frames), True = valid.
        """
        with torch.autocast(hidden.device.type, enabled=False):
            x = hidden.float()
            if mask is None:
                mask = torch.ones(x.shape[:2], dtype=torch.bool, device=x.device)
            if target_lengths is None:
                out = self._predict(x.masked_fill(~mask[..., None], 0.0), mask)
            else:
                out = self._align(x, mask, target_lengths)
        return out._replace(embeds=out.embeds.to(hidden.dtype))

    def weights(self, hidden: Tensor, mask: Tensor) -> Tensor:
        """alphas (batch, frames) of float32 hidden (batch, frames, dim), 0 outside the mask."""
        return self.weights_of(self.convolve(hidden), mask)

    def convolve(self, hidden: Tensor) -> Tensor:
        """What the weights are computed from, (batch, frames, dim) -> same shape."""
        raise NotImplementedError

    def weights_of(self, convolved: Tensor, mask: Tensor) -> Tensor:
        """alphas (batch, frames) of the output of `convolve`."""
        logits = F.linear(convolved, self.cif_output.weight.float(), self.cif_output.bias.float())[..., 0]
        alphas = (logits.sigmoid() * self.smooth_factor - self.noise_threshold).relu()
        return alphas.masked_fill(~mask, 0.0)

    def _context(self, hidden: Tensor) -> Tensor:
        """The convolution alone, in float32 even if the model is kept in half precision."""
        if hidden.size(1) == 0:
            return hidden
        conv = self.cif_conv1d
        bias = None if conv.bias is None else conv.bias.float()
        padded = F.pad(hidden.transpose(1, 2), (self.l_order, self.r_order))
        return F.conv1d(padded, conv.weight.float(), bias, groups=conv.groups).transpose(1, 2)

    def _align(self, hidden: Tensor, mask: Tensor, target_lengths: Tensor) -> CifOutput:
        alphas = self.weights(hidden, mask)
        token_num = alphas.sum(dim=1)
        # The bound keeps an utterance whose weights are all 0 (noise_threshold can do that) from becoming NaN.
        total = alphas.double().sum(dim=1).clamp(min=1e-8)
        scaled = alphas.double() * (target_lengths / total)[:, None]
        rows = int(target_lengths.max()) if target_lengths.numel() else 0
        embeds, peaks = integrate_and_fire(hidden, scaled, target_lengths, rows, self.threshold, force=True)
        return CifOutput(embeds, token_num, scaled.to(alphas.dtype), peaks)

    def _predict(self, hidden: Tensor, mask: Tensor) -> CifOutput:
        alphas = self.weights(hidden, mask)
        if self.tail_threshold > 0.0:
            hidden = F.pad(hidden, (0, 0, 0, 1))
            tail = mask.sum(dim=1, keepdim=True)
            added = torch.full_like(tail, 1, dtype=alphas.dtype) * self.tail_threshold
            alphas = F.pad(alphas, (0, 1)).scatter_add(1, tail, added)
        token_num = alphas.double().sum(dim=1)
        if self.tail_threshold > 0.0:
            token_num = (token_num - self.threshold + 1.0).floor().clamp(min=0.0)
        tokens = token_num.round().long()
        rows = int(tokens.max()) if tokens.numel() else 0
        embeds, peaks = integrate_and_fire(hidden, alphas, tokens, rows, self.threshold)
        return CifOutput(embeds, token_num.float(), alphas, peaks)


@tables.register("predictor_classes", "CifPredictor", aliases=("cif_predictor",))
class CifPredictor(_Predictor):
    """Weights from a depth-wise convolution with residual; keys `cif_conv1d`, `cif_output`."""

    depthwise = True

    @extends(_Predictor.__init__)
    def __init__(self, *, dropout: float = 0.1, tail_threshold: float = 0.45, **options: Any) -> None:
        super().__init__(tail_threshold=tail_threshold, **options)
        self.dropout = nn.Dropout(dropout)

    def convolve(self, hidden: Tensor) -> Tensor:
        return self.dropout(self._context(hidden) + hidden).relu()


@tables.register("predictor_classes", "CifPredictorV2", aliases=("cif_predictor_v2",))
class CifPredictorV2(_Predictor):
    """Weights from a full convolution; keys `cif_conv1d`, `cif_output`.

    Options of released configurations that change nothing are left out: `dropout` was never applied, and `tail_mask`
    only chose at which padded frame the tail of a short utterance stood.
    """

    def convolve(self, hidden: Tensor) -> Tensor:
        return self._context(hidden).relu()


@tables.register("predictor_classes", "CifPredictorV3", aliases=("cif_predictor_v3",))
class CifPredictorV3(CifPredictorV2):
    """V2 and a second branch with finer frames, whose weights give the times of tokens.

    The second branch takes each frame apart into `upsample_times` frames (`upsample_cnn`), lets them see each other
    (`upsample_type`) and computes a weight of each (`cif_output2`).  `forward` is that of V2; `timestamp_curves` gives
    what times are read from and `upsampled_weights` what the second length loss needs.

    Options of released configurations that change nothing (`tail_mask`) are left out.

    Args:
        smooth_factor2, noise_threshold2: as those of the first branch, for the second.
        upsample_times: frames made out of one.
        use_cif1_cnn: the second branch starts from the convolution output instead of the encoder output.
        upsample_type: "cnn" (nothing more), "cnn_blstm" (`blstm`) or "cnn_attn" (`self_attn`).
    """

    @extends(CifPredictorV2.__init__)
    def __init__(
        self,
        *,
        idim: int,
        smooth_factor2: float = 1.0,
        noise_threshold2: float = 0.0,
        upsample_times: int = 5,
        use_cif1_cnn: bool = True,
        upsample_type: str = "cnn",
        **options: Any,
    ) -> None:
        super().__init__(idim=idim, **options)
        if upsample_type not in ("cnn", "cnn_blstm", "cnn_attn"):
            raise ConfigError(f"predictor_conf: upsample_type must be cnn, cnn_blstm or cnn_attn, not {upsample_type}")
        self.smooth_factor2 = smooth_factor2
        self.noise_threshold2 = noise_threshold2
        self.upsample_times = upsample_times
        self.use_cif1_cnn = use_cif1_cnn
        self.upsample_cnn = nn.ConvTranspose1d(idim, idim, upsample_times, stride=upsample_times)
        self.blstm: nn.LSTM | None = None
        self.self_attn: _AttentionBlock | None = None
        if upsample_type == "cnn_blstm":
            self.blstm = nn.LSTM(idim, idim, batch_first=True, bidirectional=True)
        if upsample_type == "cnn_attn":
            self.self_attn = _AttentionBlock(idim)
        self.cif_output2 = nn.Linear(idim * (2 if upsample_type == "cnn_blstm" else 1), 1)

    def timestamp_curves(self, hidden: Tensor, mask: Tensor | None, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """What funasr.layers.timestamps.cif_timestamps needs, for frames `upsample_times` as fine as those of hidden.

        Args:
            hidden: encoder output (batch, frames, dim); mask: bool (batch, frames), True = valid.
            tokens: (batch,) number of tokens with the closing </s>; the weights are scaled to sum to it.

        Returns:
            alphas, peaks (batch, frames * upsample_times); an utterance's do not depend on the batch.
        """
        alphas = self.upsampled_weights(hidden, mask)
        alphas = alphas * (tokens / alphas.sum(dim=1).clamp(min=1e-8))[:, None]
        return alphas, integrator_curve(alphas, FIRE)

    def upsampled_weights(self, hidden: Tensor, mask: Tensor | None, isolate: bool = True) -> Tensor:
        """Unscaled weights of the second branch, (batch, frames * upsample_times) float32, 0 outside the mask.

        Args:
            hidden: encoder output (batch, frames, dim); mask: bool (batch, frames), valid frames first.
            isolate: keep padding from reaching valid frames.  Without, the LSTM runs through it, as in recorded
                trainings.
        """
        if hidden.size(1) == 0:
            return hidden.new_zeros(hidden.shape[:2], dtype=torch.float32)
        if mask is None:
            mask = torch.ones(hidden.shape[:2], dtype=torch.bool, device=hidden.device)
        with torch.autocast(hidden.device.type, enabled=False):
            x = hidden.float()
            if isolate:
                x = x.masked_fill(~mask[..., None], 0.0)
            x = self._upsample(self.convolve(x) if self.use_cif1_cnn else x)
            fine_mask = mask.repeat_interleave(self.upsample_times, dim=1)
            if self.blstm is not None:
                # The recurrence runs in the type that the parameters are kept in.
                lengths = mask.sum(dim=1) * self.upsample_times if isolate else None
                x = _run_lstm(self.blstm, x.to(self.cif_output2.weight.dtype), lengths).float()
            if self.self_attn is not None:
                x = self.self_attn(x.to(self.cif_output2.weight.dtype), fine_mask[:, None]).float()
            logits = F.linear(x, self.cif_output2.weight.float(), self.cif_output2.bias.float())[..., 0]
            alphas = (logits.sigmoid() * self.smooth_factor2 - self.noise_threshold2).relu()
            return alphas.masked_fill(~fine_mask, 0.0)

    def _upsample(self, x: Tensor) -> Tensor:
        """(batch, frames, dim) -> (batch, frames * upsample_times, dim).

        Kernel and stride of the transposed convolution are equal, so it is one matrix product per frame.
        """
        conv = self.upsample_cnn
        out = x @ conv.weight.float().transpose(1, 2).flatten(1)
        out = out.unflatten(-1, (self.upsample_times, -1)).flatten(1, 2)
        return out if conv.bias is None else out + conv.bias.float()


class _AttentionBlock(nn.Module):
    """One pre-norm Transformer encoder block: (batch, frames, dim) -> same shape; mask (batch, 1, frames)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.self_attn = MultiHeadedAttention(4, dim, 0.1)
        self.feed_forward = PositionwiseFeedForward(dim, 2 * dim, 0.1)
        self.norm1 = LayerNorm(dim)
        self.norm2 = LayerNorm(dim)
        self.dropout = nn.Dropout(0.1)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        y = self.norm1(x)
        x = x + self.dropout(self.self_attn(y, y, y, mask))
        return x + self.dropout(self.feed_forward(self.norm2(x)))


def _run_lstm(lstm: nn.LSTM, x: Tensor, lengths: Tensor | None) -> Tensor:
    """Output of the LSTM; with lengths (batch,), padding does not reach valid frames of its backward direction."""
    if lengths is None or bool((lengths == x.size(1)).all()):
        return lstm(x)[0]
    # An empty utterance takes one (masked) step, because torch packs none of length 0.
    packed = nn.utils.rnn.pack_padded_sequence(x, lengths.clamp(min=1).cpu(), batch_first=True, enforce_sorted=False)
    return nn.utils.rnn.pad_packed_sequence(lstm(packed)[0], batch_first=True, total_length=x.size(1))[0]
