"""emotion2vec: speech emotion features and, with a list of emotions, their probabilities.

Ma et al., "emotion2vec: Self-Supervised Pre-Training for Speech Emotion Representation", 2024.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from funasr.models.abs_model import FunASRModel, Result, Stats
from funasr.models.emotion2vec.audio import AudioEncoder, AudioOptions
from funasr.models.emotion2vec.layers import Block
from funasr.register import tables
from funasr.utils.errors import ConfigError

FS = 16000
GRANULARITIES = ("utterance", "frame")
UNUSED_LABEL = "unuse"

_PRE_TRAINING = """
    loss_beta loss_scale start_drop_path_rate end_drop_path_rate encoder_dropout post_mlp_drop attention_dropout
    activation_dropout dropout_input layerdrop average_top_k_layers end_of_block_targets clone_batch
    layer_norm_target_layer batch_norm_target_layer instance_norm_target_layer instance_norm_targets
    layer_norm_targets ema_decay ema_same_dtype log_norms ema_end_decay ema_anneal_end_step ema_encoder_only
    max_update extractor_mode shared_decoder min_target_var min_pred_var supported_modality mae_init seed
    skip_ema cls_loss recon_loss d2v_loss decoder_group adversarial_training adversarial_hidden_dim
    adversarial_weight cls_type
"""


@tables.register(
    "model_classes", "Emotion2vec", aliases=("emotion2vec_plus_seed", "emotion2vec_plus_base", "emotion2vec_plus_large")
)
class Emotion2vec(FunASRModel):
    """Convolutional audio branch and transformer blocks on raw 16 kHz samples; 20 ms per frame.

    Args:
        vocab_size: number of emotions; None for a model that gives features only.
        depth: blocks behind the audio branch.
        embed_dim, num_heads, mlp_ratio, norm_eps, norm_affine, layer_norm_first: of all blocks.
        normalize: bring each utterance to zero mean and unit variance.
        modalities: `audio`: options of the branch, see AudioOptions.
    """

    one_pass = True

    own_options = frozenset({"normalize"})
    """Plain options that bear the name of a part of other models."""

    training_only_options = frozenset(_PRE_TRAINING.split())
    """Keys of model_conf in released configurations that say how the model was pre-trained; nothing here uses them."""

    def __init__(
        self,
        vocab_size: int | None = None,
        depth: int = 8,
        embed_dim: int = 768,
        num_heads: int = 12,
        mlp_ratio: float = 4.0,
        norm_eps: float = 1e-5,
        norm_affine: bool = True,
        layer_norm_first: bool = False,
        normalize: bool = True,
        modalities: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        if embed_dim % num_heads:
            raise ConfigError(f"model_conf: embed_dim {embed_dim} is no multiple of num_heads {num_heads}")
        options = AudioOptions.from_config((modalities or {}).get("audio") or {})
        block = (embed_dim, num_heads, mlp_ratio, norm_eps, norm_affine, layer_norm_first)
        self.modality_encoders = nn.ModuleDict({"AUDIO": AudioEncoder(options, *block)})
        self.blocks = nn.ModuleList(Block(*block) for _ in range(depth))
        self.norm = nn.LayerNorm(embed_dim, norm_eps, norm_affine) if layer_norm_first else None
        self.proj = nn.Linear(embed_dim, vocab_size) if vocab_size else None
        self.normalize = normalize
        self.embed_dim = embed_dim

    @property
    def audio(self) -> AudioEncoder:
        encoder = self.modality_encoders["AUDIO"]
        assert isinstance(encoder, AudioEncoder)
        return encoder

    def extract_features(self, waves: Tensor) -> Tensor:
        """Frame features (batch, frames, embed_dim) of waveforms (batch, samples) of one length, at 16 kHz."""
        if self.normalize:
            waves = F.layer_norm(waves, waves.shape[1:])
        x, bias = self.audio(waves)
        first = len(self.audio.context_encoder.blocks)
        for i, block in enumerate(self.blocks):
            x = block(x, self.audio.attention_bias(bias, first + i))
        if self.norm is not None:
            x = self.norm(x)
        return x[:, self.audio.options.num_extra_tokens :]

    def forward(
        self, speech: Tensor, speech_lengths: Tensor, text: Tensor, text_lengths: Tensor, **kwargs: Any
    ) -> tuple[Tensor, Stats, Tensor]:
        """Not available: there is no training recipe for this model."""
        raise NotImplementedError("Emotion2vec can be used but not trained here; use `inference`")

    @torch.no_grad()
    def inference(  # type: ignore[override]
        self,
        data_in: Sequence[Tensor] | Tensor,
        data_lengths: Tensor | None = None,
        key: Sequence[str] | None = None,
        tokenizer: Any = None,
        frontend: nn.Module | None = None,
        *,
        granularity: str = "utterance",
        extract_embedding: bool = True,
    ) -> tuple[list[Result], dict[str, Any]]:
        """Emotions and features; see FunASRModel.

        Utterances run one by one: nothing is padded, and the bias of attention grows with the square of the length.

        Args:
            data_in: waveforms (samples,) at 16 kHz, or (batch, samples) with `data_lengths`.
            tokenizer: holds the names of the emotions; those that begin with "unuse" are left out.
            granularity: "utterance": `feats` is the mean over time; "frame": all frames.
            extract_embedding: give `feats`; a model without emotions always does.

        Returns:
            `key`, `labels`, `scores` (probabilities, in the order of the labels) and `feats`, numpy (embed_dim,) or
            (frames, embed_dim).  An utterance that is too short or not finite has an `error` that says so, no
            scores, and `feats` (0, embed_dim).
        """
        if granularity not in GRANULARITIES:
            raise ConfigError(f"granularity must be one of {', '.join(GRANULARITIES)}, not '{granularity}'")
        if getattr(frontend, "fs", FS) != FS:
            raise ConfigError(f"Emotion2vec takes 16 kHz audio; frontend_conf.fs is {frontend.fs}")  # type: ignore[union-attr]
        started = time.perf_counter()
        waves = [torch.as_tensor(x, dtype=torch.float32) for x in data_in]
        if data_lengths is not None:
            waves = [wave[: int(n)] for wave, n in zip(waves, data_lengths)]
        keys = list(key) if key is not None else [f"utt_{i}" for i in range(len(waves))]
        labels = list(tokenizer.token_list) if tokenizer is not None and self.proj is not None else []
        with_feats = extract_embedding or self.proj is None
        results = [self._one(name, wave, labels, granularity, with_feats) for name, wave in zip(keys, waves)]
        return results, {"decode": time.perf_counter() - started}

    def _one(self, key: str, wave: Tensor, labels: Sequence[str], granularity: str, with_feats: bool) -> Result:
        result: Result = {"key": key, "labels": [], "scores": []}
        reason = self._unusable(wave)
        if reason:
            empty = {"feats": torch.zeros(0, self.embed_dim).numpy()} if with_feats else {}
            return result | empty | {"error": reason}
        frames = self.extract_features(wave[None].to(self.device, next(self.parameters()).dtype))[0]
        mean = frames.mean(dim=0)
        if self.proj is not None and labels:
            kept = [i for i, label in enumerate(labels) if not label.startswith(UNUSED_LABEL)]
            scores = self.proj(mean).float()[kept].softmax(dim=0)
            result |= {"labels": [labels[i] for i in kept], "scores": scores.tolist()}
        if with_feats:
            result["feats"] = (frames if granularity == "frame" else mean).float().cpu().numpy()
        return result

    def _unusable(self, wave: Tensor) -> str:
        """Why an utterance has no features; "" if it has."""
        needed = self.audio.local_encoder.min_samples()
        if len(wave) < needed:
            return f"too short for a frame: {len(wave)} samples, at least {needed} are needed"
        return "" if bool(torch.isfinite(wave).all()) else "holds NaN or infinite values"
