"""Punctuation: the mark after each word of a text, for whole texts and for text that is still growing."""

from __future__ import annotations

import argparse
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

from funasr.register import tables
from funasr.tasks.abs_task import AbsTask
from funasr.train.class_choices import ClassChoices
from funasr.utils.config import constructor_defaults
from funasr.utils.errors import ConfigError
from funasr.utils.option_types import str_or_none


class PuncTask(AbsTask):
    """Train a punctuation model (CT-Transformer, offline or streaming) on words with the mark after each."""

    class_choices_list = (
        ClassChoices("model", tables.model_classes, default="CTTransformer"),
        ClassChoices("encoder", tables.encoder_classes),
        ClassChoices("tokenizer", tables.tokenizer_classes, default="CharTokenizer"),
    )

    @classmethod
    def add_task_arguments(cls, parser: argparse.ArgumentParser) -> None:
        parser.set_defaults(
            required=["output_dir", "token_list", "punc_list"], best_model_criterion=[["valid", "loss", "min"]]
        )
        group = parser.add_argument_group("Punctuation")
        group.add_argument("--token_list", type=str_or_none, default=None, help="tokens.json or tokens.txt")
        group.add_argument(
            "--punc_list",
            type=str_or_none,
            default=["<unk>", "_", "，", "。", "？", "、"],
            help="file of `mark` or `mark:weight` lines, or (YAML) a list of them; `_` is no mark",
        )
        group.add_argument("--jieba_usr_dict", type=str_or_none, default=None, help="cut Chinese into words by jieba")
        group.add_argument(
            "--unk_prob", type=float, default=0.0, help="how often a training word is taken for an unknown one"
        )
        group.add_argument(
            "--pause_prob",
            type=float,
            default=0.5,
            help="streaming models: how often a training text has a pause, beyond which the words before it do not see",
        )

    @classmethod
    def required_data_names(cls, train: bool = True, inference: bool = False) -> tuple[str, ...]:
        return ("text",) if inference else ("text", "punc")

    @classmethod
    def optional_data_names(cls, train: bool = True, inference: bool = False) -> tuple[str, ...]:
        return () if inference else ("vad",)

    @classmethod
    def resolve_choices(cls, args: argparse.Namespace) -> None:
        model: Any = tables.model_classes[args.model]
        if "punc" not in inspect.signature(model.forward).parameters:
            raise ConfigError(f"--model {args.model} does not learn punctuation; use CTTransformer or a model like it")
        streaming = cls.reads_pauses(args)
        if args.encoder is None:
            args.encoder = "SANMVadEncoder" if streaming else "SANMEncoder"
        if args.tokenizer == "CharTokenizer":
            args.tokenizer_conf = {"unk_symbol": "<unk>", "split_with_space": True, **args.tokenizer_conf}
        super().resolve_choices(args)
        encoder: Any = tables.encoder_classes[args.encoder]
        if streaming != ("vad_indexes" in inspect.signature(encoder.forward).parameters):
            wanted = "SANMVadEncoder" if streaming else "an encoder without pauses, e.g. SANMEncoder,"
            raise ConfigError(f"--model {args.model} needs {wanted} not --encoder {args.encoder}")
        args.jieba_usr_dict = args.jieba_usr_dict or args.model_conf.get("jieba_usr_dict")
        cls._resolve_sizes(args)
        cls._resolve_marks(args)
        if isinstance(args.token_list, list):
            args.tokenizer_conf = {**args.tokenizer_conf, "token_list": args.token_list}

    @classmethod
    def reads_pauses(cls, args: argparse.Namespace) -> bool:
        """Whether the model is told where a pause was (`vad`)."""
        model: Any = tables.model_classes[args.model]
        return "vad" in inspect.signature(model.forward).parameters

    @classmethod
    def _resolve_sizes(cls, args: argparse.Namespace) -> None:
        """The encoder reads the embeddings and feeds the classifier: their widths are its sizes."""
        conf = {**constructor_defaults(tables.model_classes[args.model]), **args.model_conf}
        sizes = {"input_size": conf["embed_unit"], "output_size": conf["att_unit"], "input_layer": "pe"}
        args.encoder_conf = {**sizes, **args.encoder_conf}
        for name, owner in (("input_size", "embed_unit"), ("output_size", "att_unit")):
            if args.encoder_conf[name] != sizes[name]:
                raise ConfigError(
                    f"--encoder_conf {name} is {args.encoder_conf[name]}, but --model_conf {owner} is {sizes[name]}; "
                    "they must be equal, so leave the former out"
                )
        if conf["guess_weight"] and not args.unk_prob:
            raise ConfigError("--model_conf guess_weight needs --unk_prob: there is no word to guess without it")

    @classmethod
    def _resolve_marks(cls, args: argparse.Namespace) -> None:
        """`punc_list` and `punc_weight` of the model from --punc_list; which label is no target; which mark ends."""
        from funasr.datasets.punc_list import SENTENCE_ENDS, UNKNOWN, read_punc_list

        if args.punc_list is None:
            return
        marks, weights = read_punc_list(args.punc_list)
        args.punc_list = marks if weights is None else [f"{mark}:{weight:g}" for mark, weight in zip(marks, weights)]
        first_end = next(index for index, mark in enumerate(marks) if mark in SENTENCE_ENDS)
        defaults = {"ignore_id": 0 if marks[0] == UNKNOWN else -1, "sentence_end_id": first_end}
        conf = {**defaults, **args.model_conf, "punc_list": marks, "punc_weight": weights}
        ignored, end = conf["ignore_id"], conf["sentence_end_id"]
        if 0 <= ignored < len(marks) and marks[ignored] != UNKNOWN:
            raise ConfigError(
                f"--model_conf ignore_id {ignored} would leave '{marks[ignored]}' unlearned; put {UNKNOWN} there in "
                "--punc_list, or give ignore_id -1"
            )
        if not 0 <= end < len(marks) or marks[end] not in SENTENCE_ENDS:
            raise ConfigError(
                f"--model_conf sentence_end_id {end} must be the place of 。 in --punc_list ({' '.join(marks)})"
            )
        args.model_conf = conf

    @classmethod
    def build_tokenizer(cls, args: argparse.Namespace) -> Any:
        """The tokenizer with its token list."""
        from funasr.models.build import build_tokenizer

        conf = {**args.tokenizer_conf, "token_list": args.token_list}
        return build_tokenizer({"tokenizer": args.tokenizer, "tokenizer_conf": conf})

    @classmethod
    def build_model(cls, args: argparse.Namespace) -> Any:
        from funasr.models.build import build_model

        conf = dict(args.model_conf)
        if args.jieba_usr_dict is not None:
            conf["jieba_usr_dict"] = args.jieba_usr_dict
        return build_model({**vars(args), "model_conf": conf}, None, cls.build_tokenizer(args))

    @classmethod
    def model_files(cls, args: argparse.Namespace) -> dict[str, Path]:
        named = {"tokenizer_conf.token_list": args.token_list, "model_conf.jieba_usr_dict": args.jieba_usr_dict}
        return {option: Path(file) for option, file in named.items() if isinstance(file, str)}

    @classmethod
    def build_preprocess_fn(cls, args: argparse.Namespace, train: bool) -> Callable[..., Any]:
        from funasr.datasets.punc_preprocessor import PuncPreprocessor

        return PuncPreprocessor(
            train=train,
            tokenizer=cls.build_tokenizer(args),
            punc_list=args.model_conf["punc_list"],
            jieba_usr_dict=args.jieba_usr_dict,
            unk_prob=args.unk_prob,
            pauses=cls.reads_pauses(args),
            pause_prob=args.pause_prob,
            seed=args.seed,
        )

    @classmethod
    def build_collate_fn(cls, args: argparse.Namespace, train: bool) -> Callable[..., Any]:
        from funasr.datasets.collate import CommonCollateFn

        return CommonCollateFn(int_pad_value=0, not_sequence=("vad",))
