"""Keyword spotting as a task of its own: `python kws_task.py --config conf/train.yaml --output_dir exp/kws ...`."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from funasr.datasets.collate import CommonCollateFn
from funasr.datasets.preprocessor import CommonPreprocessor
from funasr.datasets.rng import keyed_generator
from funasr.register import tables
from funasr.tasks.abs_task import AbsTask
from funasr.tasks.parser import Repeat
from funasr.train.class_choices import ClassChoices
from funasr.utils.nested_dict import NestedDictAction
from funasr.utils.option_types import str_or_none


class KeywordPreprocessor(CommonPreprocessor):
    """Audio as for speech recognition, at another level in each epoch; of a text only the keywords stay, as ids.

    Args:
        keywords: in the order of their ids, which begin with 1; 0 is the blank of CTC.
        gain_db: the level is raised or lowered by at most this, in dB; only with `train`.
        options: of CommonPreprocessor.
    """

    def __init__(self, train: bool, keywords: list[str], gain_db: float, **options: Any) -> None:
        super().__init__(train, **options)
        self.ids = {keyword: number for number, keyword in enumerate(keywords, 1)}
        self.gain_db = gain_db if train else 0.0

    def __call__(self, uid: str, values: dict[str, Any]) -> dict[str, Any]:
        values = super().__call__(uid, values)
        rng = keyed_generator(self.seed, self.epoch, f"gain {uid}")
        values["speech"] = values["speech"] * 10 ** (rng.uniform(-self.gain_db, self.gain_db) / 20)
        words = values["text"].lower().split()
        values["text"] = np.array([self.ids[word] for word in words if word in self.ids], dtype=np.int64)
        return values


class KWSTask(AbsTask):
    """Train a keyword spotter on audio with transcripts: words that are no keywords count as other speech."""

    may_be_empty = ("text",)  # a sample without a keyword is a good one here
    class_choices_list = (
        ClassChoices("frontend", tables.frontend_classes, default="wav_frontend"),
        ClassChoices("specaug", tables.specaug_classes),
        ClassChoices("model", tables.model_classes, default="FsmnKWS"),
        ClassChoices("encoder", tables.encoder_classes, default="fsmn"),
        ClassChoices("tokenizer", tables.tokenizer_classes, default="char"),
    )

    @classmethod
    def add_task_arguments(cls, parser: argparse.ArgumentParser) -> None:
        parser.set_defaults(required=["output_dir", "keyword"])
        model = parser.add_argument_group("Keyword spotting")
        model.add_argument("--keyword", action=Repeat, default=[], help="a word to look for; repeat")
        model.add_argument("--cmvn_file", type=str_or_none, default=None, help="am.mvn for the front end")
        model.add_argument("--ctc_conf", action=NestedDictAction, default={}, help="options of the CTC layer")
        audio = parser.add_argument_group("Augmentation (training only)")
        audio.add_argument("--speed_perturb", type=float, action=Repeat, default=[], help="a factor, e.g. 0.9")
        audio.add_argument("--gain_db", type=float, default=0.0, help="largest change of level in dB")
        audio.add_argument("--noise_scp", type=str_or_none, default=None, help="list of noises, or of other speech")
        audio.add_argument("--noise_apply_prob", type=float, default=1.0)
        audio.add_argument("--noise_db_range", default="5_20", help="signal-to-noise ratio in dB: 10 or 10_20")

    @classmethod
    def required_data_names(cls, train: bool = True, inference: bool = False) -> tuple[str, ...]:
        return ("speech",) if inference else ("speech", "text")

    @classmethod
    def build_model(cls, args: argparse.Namespace) -> Any:
        from funasr.models.build import build_model, build_tokenizer

        # What is written into `args` stands in config.yaml, from which AutoModel builds the same again.
        args.tokenizer_conf["token_list"] = ["<blank>", *args.keyword, "<unk>"]
        return build_model(vars(args), cls.frontend(args), build_tokenizer(vars(args)))

    @classmethod
    def build_preprocess_fn(cls, args: argparse.Namespace, train: bool) -> Callable[..., Any]:
        names = ("speed_perturb", "noise_scp", "noise_apply_prob", "noise_db_range", "seed")
        options = {name: getattr(args, name) for name in names}
        return KeywordPreprocessor(train, args.keyword, args.gain_db, fs=cls.frontend(args).fs, **options)

    @classmethod
    def build_collate_fn(cls, args: argparse.Namespace, train: bool) -> Callable[..., Any]:
        return CommonCollateFn(float_pad_value=0.0, int_pad_value=-1)

    @classmethod
    def model_files(cls, args: argparse.Namespace) -> dict[str, Path]:
        return {"frontend_conf.cmvn_file": Path(args.cmvn_file)} if args.cmvn_file else {}


if __name__ == "__main__":
    KWSTask.main()
