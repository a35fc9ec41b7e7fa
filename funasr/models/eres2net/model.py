"""ERes2NetV2: speaker embeddings from a Res2Net with attentional fusion inside its blocks and between its stages.

Chen et al., "ERes2NetV2: Boosting Short-Duration Speaker Verification Performance with Computational Efficiency", 2024.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from funasr.layers.conv_norm import conv_norm
from funasr.models.eres2net.layers import AttentionalFusion, Res2Block, StatsPool2d
from funasr.models.speaker_embedding import SpeakerEmbeddingModel
from funasr.register import tables
from funasr.utils.errors import ConfigError

STRIDES = (1, 2, 2, 2)  # of the stages, in frequency and time
TOTAL_STRIDE = 8


class ERes2NetV2Net(nn.Module):
    """The network; `ERes2NetV2` holds it under the name that released weights have.

    Arguments as `ERes2NetV2`.
    """

    def __init__(
        self,
        feat_dim: int,
        embedding_size: int,
        m_channels: int,
        base_width: int,
        scale: int,
        expansion: int,
        num_blocks: Sequence[int],
        two_emb_layer: bool,
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, m_channels, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(m_channels)
        stages = []
        in_channels = m_channels
        for stage, (count, stride) in enumerate(zip(num_blocks, STRIDES)):
            planes = m_channels * 2**stage
            blocks = []
            for i in range(count):
                step = stride if i == 0 else 1
                blocks.append(Res2Block(in_channels, planes, step, base_width, scale, expansion, fusion=stage >= 2))
                in_channels = planes * expansion
            stages.append(nn.Sequential(*blocks))
        self.layer1, self.layer2, self.layer3, self.layer4 = stages
        self.layer3_ds = nn.Conv2d(in_channels // 2, in_channels, 3, stride=2, padding=1, bias=False)
        self.fuse34 = AttentionalFusion(in_channels)
        self.pool = StatsPool2d()
        self.seg_1 = nn.Linear(2 * in_channels * -(-feat_dim // TOTAL_STRIDE), embedding_size)
        self.two_emb_layer = two_emb_layer
        if two_emb_layer:
            self.seg_bn_1 = nn.BatchNorm1d(embedding_size, affine=False)
            self.seg_2 = nn.Linear(embedding_size, embedding_size)

    def forward(self, feats: Tensor) -> Tensor:
        """(batch, frames, feat_dim) -> (batch, embedding_size)."""
        x = feats.transpose(1, 2).unsqueeze(1)
        out = F.relu_(conv_norm(x, self.conv1, self.bn1))
        third = self.layer3(self.layer2(self.layer1(out)))
        fused = self.fuse34(self.layer4(third), self.layer3_ds(third))
        embedding = self.seg_1(self.pool(fused))
        return self.seg_2(self.seg_bn_1(F.relu(embedding))) if self.two_emb_layer else embedding


@tables.register("model_classes", "ERes2NetV2", aliases=("iic/speech_eres2netv2_sv_zh-cn_16k-common",))
class ERes2NetV2(SpeakerEmbeddingModel):
    """Four stages of Res2Net blocks, statistics pooling and a linear layer.

    Args:
        feat_dim: mel bins.
        embedding_size: size of the embedding.
        m_channels: channels of the first stage; each stage doubles them.
        baseWidth: channels of a group per 64 channels of the stage.
        scale: groups of a block.
        expansion: the output of a block has `expansion` times the channels of its stage.
        num_blocks: blocks of the four stages.
        pooling_func: "TSTP", mean and standard deviation over time.
        two_emb_layer: a second linear layer behind the first.
    """

    def __init__(
        self,
        feat_dim: int = 80,
        embedding_size: int = 192,
        m_channels: int = 64,
        baseWidth: int = 26,
        scale: int = 2,
        expansion: int = 2,
        num_blocks: Sequence[int] = (3, 4, 6, 3),
        pooling_func: str = "TSTP",
        two_emb_layer: bool = False,
    ) -> None:
        super().__init__()
        if pooling_func != "TSTP":
            raise ConfigError(f"model_conf: pooling_func of ERes2NetV2 must be 'TSTP', not '{pooling_func}'")
        if len(num_blocks) != len(STRIDES):
            raise ConfigError(f"model_conf: num_blocks must be {len(STRIDES)} numbers, not {list(num_blocks)}")
        self.model = ERes2NetV2Net(
            feat_dim, embedding_size, m_channels, baseWidth, scale, expansion, num_blocks, two_emb_layer
        )
        self.feat_dim = feat_dim
        self.embedding_size = embedding_size
        self.min_frames = TOTAL_STRIDE + 1

    def embed(self, feats: Tensor) -> Tensor:
        """Embeddings of features of one length.

        Args:
            feats: (batch, frames, feat_dim) from `speaker_features`; at least 9 frames.

        Returns: (batch, embedding_size).
        """
        return self.model(feats)

    @classmethod
    def adapt_weights(cls, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Weights under the names of this class: the hub's checkpoint has them without the prefix `model.`."""
        own = super().adapt_weights(weights)
        return {name if name.startswith("model.") else f"model.{name}": value for name, value in own.items()}
