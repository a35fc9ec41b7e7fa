"""Speaker verification: embeddings that tell speakers apart, also those that were not in training."""

from __future__ import annotations

import argparse
import logging
from collections import Counter
from collections.abc import Callable
from typing import Any

from funasr.register import tables
from funasr.tasks.abs_task import AbsTask
from funasr.tasks.options import add_augmentation_arguments, augmentation_options
from funasr.train.class_choices import ClassChoices
from funasr.utils.config import check_keywords, constructor_defaults
from funasr.utils.errors import ConfigError, DataError
from funasr.utils.nested_dict import NestedDictAction

logger = logging.getLogger(__name__)


class SVTask(AbsTask):
    """Train a speaker model (CAM++, ERes2NetV2) to tell the speakers of a corpus apart.

    Data names: `speech` (sound) and `speaker` (text, as in utt2spk).  Copies of a speaker at the speeds of
    --speed_perturb count as more speakers.  The classifier of the training speakers is left out of the weights of the
    experiment, so that they load like those of a released model.
    """

    class_choices_list = (
        ClassChoices("frontend", tables.frontend_classes, default="speaker_fbank"),
        ClassChoices("model", tables.model_classes, default="cam++"),
    )

    @classmethod
    def add_task_arguments(cls, parser: argparse.ArgumentParser) -> None:
        group = parser.add_argument_group("Speakers")
        group.add_argument("--crop_s", type=float, default=2.0, help="length in s of the crops that are trained on")
        group.add_argument(
            "--loss_conf", action=NestedDictAction, default={}, help="options of AAMSoftmax: margin, scale, sub_centers"
        )
        add_augmentation_arguments(parser)

    @classmethod
    def resolve_choices(cls, args: argparse.Namespace) -> None:
        from funasr.layers.margin_softmax import AAMSoftmax

        super().resolve_choices(args)
        check_keywords(AAMSoftmax, args.loss_conf, "--loss_conf")

    @classmethod
    def resolved_config(cls, args: argparse.Namespace) -> dict[str, Any]:
        from funasr.layers.margin_softmax import AAMSoftmax

        config = super().resolved_config(args)
        return {**config, "loss_conf": {**constructor_defaults(AAMSoftmax), **args.loss_conf}}

    @classmethod
    def required_data_names(cls, train: bool = True, inference: bool = False) -> tuple[str, ...]:
        return ("speech",) if inference else ("speech", "speaker")

    @classmethod
    def build_model(cls, args: argparse.Namespace) -> Any:
        from funasr.datasets.speaker_preprocessor import speeds_of
        from funasr.frontends.speaker_fbank import SpeakerFbank
        from funasr.models.build import build_model
        from funasr.models.speaker_embedding import SpeakerEmbeddingModel

        if not issubclass(tables.model_classes[args.model], SpeakerEmbeddingModel):
            raise ConfigError(f"--model {args.model} gives no speaker embeddings; choose cam++ or eres2netv2")
        frontend = cls.frontend(args)
        model: Any = build_model(vars(args), frontend, None)
        if not isinstance(frontend, SpeakerFbank) or frontend.n_mels != model.feat_dim:
            raise ConfigError(
                f"--frontend: {args.model} is used with speaker_fbank of n_mels={model.feat_dim} (its feat_dim), so it "
                "must be trained with that"
            )
        speakers = training_speakers(args)
        report_single_utterances(args)
        model.train_with(len(speakers) * len(speeds_of(args.speed_perturb)), **args.loss_conf)
        return model

    @classmethod
    def build_preprocess_fn(cls, args: argparse.Namespace, train: bool) -> Callable[..., Any]:
        from funasr.datasets.preprocessor import CommonPreprocessor
        from funasr.datasets.speaker_preprocessor import SpeakerPreprocessor, speeds_of

        fs = cls.frontend(args).fs
        on_crop = {**augmentation_options(args), "speed_perturb": None}  # speeds make speakers, and come before
        return SpeakerPreprocessor(
            training_speakers(args),
            args.crop_s,
            fs,
            speeds=speeds_of(args.speed_perturb),
            augment=CommonPreprocessor(train=train, fs=fs, seed=args.seed, **on_crop),
            train=train,
            seed=args.seed,
        )

    @classmethod
    def build_collate_fn(cls, args: argparse.Namespace, train: bool) -> Callable[..., Any]:
        from funasr.datasets.collate import CommonCollateFn

        return CommonCollateFn(not_sequence=("speaker",))


def training_speakers(args: argparse.Namespace) -> list[str]:
    """The speakers of the training data, sorted: their places are their classes.

    Raises DataError if there are fewer than two, or if the validation data have others.
    """
    train, valid = _speakers(args, "train"), _speakers(args, "valid")
    if len(train) < 2:
        raise DataError(f"{_path(args, 'train')} has {len(train)} speaker(s); two at least can be told apart")
    strangers = sorted(valid.keys() - train.keys())
    if strangers:
        raise DataError(
            f"{_path(args, 'valid')}: {len(strangers)} of its speakers are not in {_path(args, 'train')}, e.g. "
            f"{', '.join(strangers[:3])}; validation is on other speech of the training speakers (unknown ones are for "
            "trials, see funasr.bin.score_sv)"
        )
    return sorted(train)


def report_single_utterances(args: argparse.Namespace) -> None:
    """Say which speakers have one utterance."""
    single = sorted(name for name, count in _speakers(args, "train").items() if count == 1)
    if single:
        kept = "they are kept for training, but no target trial can be formed of them"
        logger.info("%d speakers have one utterance, e.g. %s: %s", len(single), ", ".join(single[:5]), kept)


def _path(args: argparse.Namespace, phase: str) -> str:
    """The file of the data name `speaker`."""
    from funasr.tasks.iterators import parse_triplets

    option = f"--{phase}_data_path_and_name_and_type"
    for path, name, _ in parse_triplets(getattr(args, option[2:]), option):
        if name == "speaker":
            return path
    raise ConfigError(f"{option}: data name 'speaker' is missing, e.g. data/{phase}/utt2spk,speaker,text")


def _speakers(args: argparse.Namespace, phase: str) -> Counter[str]:
    """Speaker -> how many utterances."""
    from funasr.datasets.data_types import open_table

    return Counter(open_table(_path(args, phase), "text").values())
