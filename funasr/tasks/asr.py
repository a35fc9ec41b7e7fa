"""Speech recognition: hybrid CTC/attention models and the Paraformer family."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from funasr.register import tables
from funasr.tasks.abs_task import AbsTask
from funasr.tasks.options import INIT_SCHEMES, add_augmentation_arguments, augmentation_options
from funasr.train.class_choices import ClassChoices
from funasr.utils.errors import ConfigError
from funasr.utils.nested_dict import NestedDictAction
from funasr.utils.option_types import int_or_none, str2bool, str_or_none


class ASRTask(AbsTask):
    """Train a speech recogniser (attention, CTC, Paraformer, ...) on audio with transcripts."""

    class_choices_list = (
        ClassChoices("frontend", tables.frontend_classes, default="default", optional=True),
        ClassChoices("specaug", tables.specaug_classes),
        ClassChoices("normalize", tables.normalize_classes),
        ClassChoices("model", tables.model_classes, default="asr"),
        ClassChoices("encoder", tables.encoder_classes, default="conformer"),
        ClassChoices("decoder", tables.decoder_classes, default="transformer", optional=True),
        ClassChoices("predictor", tables.predictor_classes, default="cif_predictor", optional=True),
    )

    @classmethod
    def add_task_arguments(cls, parser: argparse.ArgumentParser) -> None:
        parser.set_defaults(required=["output_dir", "token_list"])
        model = parser.add_argument_group("Model")
        model.add_argument("--token_list", type=str_or_none, default=None, help="file with one token per line")
        model.add_argument("--init", type=str_or_none, default=None, choices=INIT_SCHEMES, help="initial weights")
        model.add_argument("--input_size", type=int_or_none, default=None, help="feature dimension; no front end then")
        model.add_argument("--cmvn_file", type=str_or_none, default=None, help="am.mvn for the front end")
        model.add_argument("--ctc_conf", action=NestedDictAction, default={}, help="options of the CTC layer")
        text = parser.add_argument_group("Text")
        text.add_argument("--use_preprocessor", type=str2bool, default=True, help="text to ids, augmentation")
        text.add_argument("--token_type", default="bpe", choices=("bpe", "char", "word", "phn"))
        text.add_argument("--bpemodel", type=str_or_none, default=None, help="sentencepiece model for bpe")
        text.add_argument("--non_linguistic_symbols", type=str_or_none, default=None, help="file of symbols kept whole")
        text.add_argument("--split_with_space", type=str2bool, default=False, help="text is cut into tokens already")
        text.add_argument("--seg_dict_file", type=str_or_none, default=None, help="word to pieces, for char")
        text.add_argument(
            "--cleaner", type=str_or_none, default=None, choices=(None, "tacotron", "jaconv", "vietnamese")
        )
        text.add_argument("--g2p", type=str_or_none, default=None, help="letter-to-phone converter, for phn")
        add_augmentation_arguments(parser)

    @classmethod
    def required_data_names(cls, train: bool = True, inference: bool = False) -> tuple[str, ...]:
        return ("speech",) if inference else ("speech", "text")

    @classmethod
    def build_model(cls, args: argparse.Namespace) -> Any:
        from funasr.layers.initialize import initialize
        from funasr.models.build import build_model, build_tokenizer

        cls._read_token_list(args)
        model = build_model(vars(args), cls.frontend(args), build_tokenizer(vars(args)))
        if args.init is not None:
            initialize(model, args.init)
        return model

    @classmethod
    def _read_token_list(cls, args: argparse.Namespace) -> None:
        """Put the list itself into `args`, so that config.yaml is enough to rebuild the model."""
        from funasr.tokenizers.token_list import read_token_list

        if isinstance(args.token_list, str):
            args.token_list = read_token_list(args.token_list)
        if not args.token_list:
            raise ConfigError("--token_list is empty")

    @classmethod
    def model_files(cls, args: argparse.Namespace) -> dict[str, Path]:
        named = {
            "tokenizer_conf.bpemodel": args.bpemodel,
            "tokenizer_conf.seg_dict_file": args.seg_dict_file,
            "frontend_conf.cmvn_file": args.cmvn_file or args.frontend_conf.get("cmvn_file"),
        }
        return {option: Path(file) for option, file in named.items() if file}

    @classmethod
    def build_preprocess_fn(cls, args: argparse.Namespace, train: bool) -> Callable[..., Any] | None:
        from funasr.datasets.preprocessor import CommonPreprocessor

        if not args.use_preprocessor:
            return None
        cls._read_token_list(args)
        return CommonPreprocessor(
            train=train,
            token_type=args.token_type,
            token_list=args.token_list,
            bpemodel=args.bpemodel,
            text_cleaner=args.cleaner,
            g2p_type=args.g2p,
            non_linguistic_symbols=args.non_linguistic_symbols,
            split_with_space=args.split_with_space,
            seg_dict_file=args.seg_dict_file,
            force_single_channel=cls.sample_rate(args) is not None,  # features have their own second axis
            fs=cls.sample_rate(args) or 16000,
            seed=args.seed,
            **augmentation_options(args),
        )

    @classmethod
    def build_collate_fn(cls, args: argparse.Namespace, train: bool) -> Callable[..., Any]:
        from funasr.datasets.collate import CommonCollateFn

        # 0 is the CTC blank and so cannot pad text; -1 is what the losses ignore.
        return CommonCollateFn(float_pad_value=0.0, int_pad_value=-1)
