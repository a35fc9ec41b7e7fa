"""Voice activity detection: an FSMN trained on frames of speech and silence, mixed with noise and music on the way."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from funasr.register import tables
from funasr.tasks.abs_task import AbsTask
from funasr.tasks.options import INIT_SCHEMES, add_augmentation_arguments, augmentation_options
from funasr.tasks.parser import Repeat
from funasr.train.class_choices import ClassChoices
from funasr.utils.errors import ConfigError
from funasr.utils.option_types import float_or_none, str_or_none

LABEL_NAMES = ("segments", "target")
UNITS = 248  # of the released encoder


class VADTask(AbsTask):
    """Train a voice activity detector on audio with labels.

    Data names: `speech` (sound), and the labels either as `segments` (text: [[start_ms, end_ms], ...], made by
    funasr.bin.vad_labels from RTTM, segments, CTM or energy) or as `target` (one output unit for each frame: text_int,
    npy or kaldi_ark, e.g. a forced alignment).
    """

    class_choices_list = (
        ClassChoices("frontend", tables.frontend_classes, default="wav_frontend_online"),
        ClassChoices("model", tables.model_classes, default="fsmnvad"),
        ClassChoices("encoder", tables.encoder_classes, default="fsmn"),
    )

    @classmethod
    def add_task_arguments(cls, parser: argparse.ArgumentParser) -> None:
        group = parser.add_argument_group("Model")
        group.add_argument("--cmvn_file", type=str_or_none, default=None, help="am.mvn for the front end")
        group.add_argument("--init", type=str_or_none, default="chainer", choices=INIT_SCHEMES, help="initial weights")
        mixing = parser.add_argument_group("Mixing (training only)")
        mixing.add_argument(
            "--mix_length", type=float_or_none, default=None, help="s; samples are cut or filled up with silence"
        )
        mixing.add_argument(
            "--mix",
            action=Repeat,
            default=[],
            help="LIST,PROB,LOW_HIGH: mix in a file of the list (noise, music), how often, signal-to-noise ratio in dB",
        )
        mixing.add_argument("--noise_alone_prob", type=float, default=0.0, help="how often speech is left out")
        mixing.add_argument("--gain_db_range", default="0", help="change of the volume in dB: -20_5")
        add_augmentation_arguments(parser)

    @classmethod
    def resolve_choices(cls, args: argparse.Namespace) -> None:
        super().resolve_choices(args)
        conf, sizes = dict(args.frontend_conf), {"n_mels": 80, "lfr_m": 1}
        features = int(conf.get("n_mels", sizes["n_mels"])) * int(conf.get("lfr_m", sizes["lfr_m"]))
        args.encoder_conf = {"input_dim": features, **args.encoder_conf}
        if args.encoder_conf["input_dim"] != features:
            raise ConfigError(
                f"--encoder_conf input_dim is {args.encoder_conf['input_dim']}, but the front end gives {features} "
                "values (n_mels * lfr_m); leave it out"
            )

    @classmethod
    def required_data_names(cls, train: bool = True, inference: bool = False) -> tuple[str, ...]:
        return ("speech",)

    @classmethod
    def optional_data_names(cls, train: bool = True, inference: bool = False) -> tuple[str, ...]:
        return () if inference else LABEL_NAMES

    @classmethod
    def check_task_requirements(
        cls, names: Sequence[str], allow_variable_data_keys: bool, train: bool, inference: bool = False
    ) -> None:
        super().check_task_requirements(names, allow_variable_data_keys, train, inference)
        labels = [name for name in LABEL_NAMES if name in names]
        if not inference and len(labels) != 1:
            raise ConfigError(
                f"VADTask needs one of the data names {' and '.join(LABEL_NAMES)}, not {' and '.join(labels) or 'none'}"
                ": segments of a label table (funasr.bin.vad_labels), or target units of an alignment"
            )

    @classmethod
    def build_frontend(cls, args: argparse.Namespace) -> Any:
        """Features of whole utterances in batches: those that the streaming front end of the model gives."""
        from funasr.frontends.wav_frontend_online import WavFrontendOnline
        from funasr.models.build import build_frontend

        if tables.frontend_classes[args.frontend] is not WavFrontendOnline:
            raise ConfigError(f"--frontend must be wav_frontend_online, for detectors stream; not {args.frontend}")
        return build_frontend({**vars(args), "frontend": "WavFrontend"})

    @classmethod
    def build_model(cls, args: argparse.Namespace) -> Any:
        from funasr.layers.initialize import initialize
        from funasr.models.build import build_frontend, build_model
        from funasr.models.fsmn_vad.model import FsmnVADStreaming

        cls._check_targets(args)
        model = build_model(vars(args), cls.frontend(args), None)
        if not isinstance(model, FsmnVADStreaming):
            raise ConfigError(f"--model {args.model} is no voice activity detector; choose FsmnVADStreaming")
        model.detector(build_frontend(vars(args)))  # refuses frames that differ
        if args.init is not None:
            initialize(model, args.init)
        return model

    @classmethod
    def _check_targets(cls, args: argparse.Namespace) -> None:
        """Segments say nothing of units: with more than two of them the model must count them by class."""
        units, conf = args.encoder_conf.get("output_dim", UNITS), args.model_conf
        words = args.train_data_path_and_name_and_type
        if (
            units != 2
            and conf.get("targets", "pdf") == "pdf"
            and any(word.split(",")[1:2] == ["segments"] for word in words)
        ):
            raise ConfigError(
                f"segments tell silence and speech apart, not the {units} units of the encoder: use --model_conf "
                "targets=class, --encoder_conf output_dim=2, or target units of an alignment"
            )

    @classmethod
    def model_files(cls, args: argparse.Namespace) -> dict[str, Path]:
        cmvn_file = args.cmvn_file or args.frontend_conf.get("cmvn_file")
        return {"frontend_conf.cmvn_file": Path(cmvn_file)} if cmvn_file else {}

    @classmethod
    def build_preprocess_fn(cls, args: argparse.Namespace, train: bool) -> Callable[..., Any]:
        from funasr.datasets.vad_mixing import FrameGrid, VADPreprocessor

        frontend = cls.build_frontend(args)
        options = frontend.options
        by_class = args.model_conf.get("targets", "pdf") == "class"
        silent = args.model_conf.get("sil_pdf_ids", [0])
        return VADPreprocessor(
            train,
            FrameGrid(frontend.fs, options.window_size, options.shift, frontend.lfr_n),
            mix_length=args.mix_length,
            mix=args.mix,
            noise_alone_prob=args.noise_alone_prob,
            gain_db_range=args.gain_db_range,
            silence=0 if by_class or not silent else int(silent[0]),
            units=2 if by_class else int(args.encoder_conf.get("output_dim", UNITS)),
            seed=args.seed,
            **augmentation_options(args),
        )

    @classmethod
    def build_collate_fn(cls, args: argparse.Namespace, train: bool) -> Callable[..., Any]:
        from funasr.datasets.collate import CommonCollateFn

        return CommonCollateFn(float_pad_value=0.0, int_pad_value=-1)
