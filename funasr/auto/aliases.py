"""Short names of official models and their ids on the two hubs."""

from __future__ import annotations

from typing import NamedTuple


class HubIds(NamedTuple):
    """Where a model lives: its id on ModelScope and on Hugging Face (None: it is not there)."""

    modelscope: str
    huggingface: str | None


_EN = "iic/speech_paraformer-large-vad-punc_asr_nat-en-16k-common-vocab10020"
_WHISPER_V2 = "iic/speech_whisper-large_asr_multilingual"

ALIASES: dict[str, HubIds] = {
    "paraformer": HubIds(
        "iic/speech_paraformer-large_asr_nat-zh-cn-16k-common-vocab8404-pytorch", "funasr/paraformer-zh"
    ),
    "paraformer-zh": HubIds(
        "iic/speech_seaco_paraformer_large_asr_nat-zh-cn-16k-common-vocab8404-pytorch", "funasr/paraformer-zh"
    ),
    "paraformer-en": HubIds(_EN, "funasr/paraformer-en"),
    "paraformer-en-spk": HubIds(_EN, None),
    "paraformer-zh-streaming": HubIds(
        "iic/speech_paraformer-large_asr_nat-zh-cn-16k-common-vocab8404-online", "funasr/paraformer-zh-streaming"
    ),
    "SenseVoiceSmall": HubIds("iic/SenseVoiceSmall", "FunAudioLLM/SenseVoiceSmall"),
    "fsmn-vad": HubIds("iic/speech_fsmn_vad_zh-cn-16k-common-pytorch", "funasr/fsmn-vad"),
    "ct-punc": HubIds("iic/punc_ct-transformer_cn-en-common-vocab471067-large", "funasr/ct-punc"),
    "ct-punc-c": HubIds(
        "iic/punc_ct-transformer_zh-cn-common-vocab272727-pytorch",
        "iic/punc_ct-transformer_zh-cn-common-vocab272727-pytorch",
    ),
    "fa-zh": HubIds("iic/speech_timestamp_prediction-v1-16k-offline", "funasr/fa-zh"),
    "cam++": HubIds("iic/speech_campplus_sv_zh-cn_16k-common", "funasr/campplus"),
    "Whisper-large-v2": HubIds(
        "iic/speech_whisper-large_asr_multilingual", "iic/speech_whisper-large_asr_multilingual"
    ),
    "Whisper-large-v3": HubIds("iic/Whisper-large-v3", "iic/Whisper-large-v3"),
    "Whisper-large-v3-turbo": HubIds("iic/Whisper-large-v3-turbo", "iic/Whisper-large-v3-turbo"),
    "Qwen-Audio": HubIds("Qwen/Qwen-Audio", "Qwen/Qwen-Audio"),
    "emotion2vec_plus_large": HubIds("iic/emotion2vec_plus_large", "emotion2vec/emotion2vec_plus_large"),
    "emotion2vec_plus_base": HubIds("iic/emotion2vec_plus_base", "emotion2vec/emotion2vec_plus_base"),
    "emotion2vec_plus_seed": HubIds("iic/emotion2vec_plus_seed", "emotion2vec/emotion2vec_plus_seed"),
}

PACKAGED = {"silero-vad": "SileroVAD", "silero_vad": "SileroVAD"}
"""Models whose weights come with a Python package, and their classes; they have no directory."""
