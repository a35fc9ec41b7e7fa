"""CAM++: speaker embeddings from a densely connected TDNN with context-aware masks.

Wang et al., "CAM++: A Fast and Efficient Network for Speaker Verification Using Context-Aware Masking", 2023.
"""

from __future__ import annotations

from collections import OrderedDict

from torch import Tensor, nn

from funasr.models.campplus.layers import ConvHead, DenseBlock, DenseLayer, StatsPool, Tdnn, Transit, nonlinear
from funasr.models.speaker_embedding import SpeakerEmbeddingModel
from funasr.register import tables
from funasr.utils.errors import ConfigError

BLOCKS = ((12, 1), (24, 2), (16, 2))  # (layers, dilation)


@tables.register("model_classes", "CAMPPlus", aliases=("cam++",))
class CAMPPlus(SpeakerEmbeddingModel):
    """2-D convolutional head, TDNN, three dense blocks, statistics pooling and a linear layer.

    Args:
        feat_dim: mel bins, a multiple of 8.
        embedding_size: size of the embedding.
        growth_rate: channels that each dense layer adds.
        bn_size: the bottleneck of a dense layer has bn_size * growth_rate channels.
        init_channels: channels of the TDNN.
        config_str: what stands before each convolution: names out of batchnorm, batchnorm_ (without affine
            parameters), relu and prelu, joined by "-".
        memory_efficient: in training, compute the bottlenecks twice instead of keeping them.
        output_level: "segment" for one vector per utterance; "frame" for the frames before the pooling, 20 ms apart.
    """

    cpu_pass_frames = 2400  # 16 windows of 1.5 s; twice as many take as long and 30 MiB more

    def __init__(
        self,
        feat_dim: int = 80,
        embedding_size: int = 192,
        growth_rate: int = 32,
        bn_size: int = 4,
        init_channels: int = 128,
        config_str: str = "batchnorm-relu",
        memory_efficient: bool = True,
        output_level: str = "segment",
    ) -> None:
        super().__init__()
        if output_level not in ("segment", "frame"):
            raise ConfigError(f"model_conf: output_level must be 'segment' or 'frame', not '{output_level}'")
        self.head = ConvHead(feat_dim)
        channels = init_channels
        parts: OrderedDict[str, nn.Module] = OrderedDict()
        parts["tdnn"] = Tdnn(self.head.output_size(), channels, config_str)
        for number, (layers, dilation) in enumerate(BLOCKS, 1):
            parts[f"block{number}"] = DenseBlock(
                layers, channels, growth_rate, bn_size * growth_rate, dilation, config_str, memory_efficient
            )
            channels += layers * growth_rate
            parts[f"transit{number}"] = Transit(channels, channels // 2, config_str)
            channels //= 2
        parts["out_nonlinear"] = nonlinear(config_str, channels)
        if output_level == "segment":
            parts["stats"] = StatsPool()
            parts["dense"] = DenseLayer(2 * channels, embedding_size)
        self.xvector = nn.Sequential(parts)
        self.output_level = output_level
        self.feat_dim = feat_dim
        self.embedding_size = embedding_size if output_level == "segment" else channels
        self.min_frames = 3 if output_level == "segment" else 1

    def embed(self, feats: Tensor) -> Tensor:
        """Embeddings of features of one length.

        Args:
            feats: (batch, frames, feat_dim) from `speaker_features`; at least 3 frames for an embedding.

        Returns: (batch, embedding_size), or (batch, ceil(frames / 2), channels) at output_level "frame".
        """
        return self.xvector(self.head(feats))
