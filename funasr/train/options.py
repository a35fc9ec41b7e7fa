"""Options of the trainer: the record it works with, the command line that fills it, and their checks."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

from funasr.utils.errors import ConfigError
from funasr.utils.option_types import int_or_none, int_range, str2bool, str2triplet

Criterion = tuple[str, str, str]

DEFAULT_CRITERIA: tuple[Criterion, ...] = (
    ("train", "loss", "min"),
    ("valid", "loss", "min"),
    ("train", "acc", "max"),
    ("valid", "acc", "max"),
)


@dataclass(frozen=True)
class TrainerOptions:
    """Everything the trainer can be told.  The meaning of each field is the help text in `add_trainer_arguments`."""

    max_epoch: int = 40
    max_update: int | None = None
    save_interval_steps: int = 0
    patience: int | None = None
    val_scheduler_criterion: tuple[str, str] = ("valid", "loss")
    early_stopping_criterion: Criterion = ("valid", "loss", "min")
    best_model_criterion: tuple[Criterion, ...] = DEFAULT_CRITERIA
    keep_nbest_models: tuple[int, ...] = (10,)
    nbest_averaging_interval: int = 0
    average_last: int = 0
    grad_clip: float = 5.0
    grad_clip_type: float = 2.0
    grad_noise: bool = False
    accum_grad: int = 1
    max_nonfinite_steps: int = 50
    no_forward_run: bool = False
    resume: bool = False
    train_dtype: str = "float32"
    use_amp: bool = False
    amp_dtype: str = "auto"
    log_interval: int | None = None
    use_matplotlib: bool = True
    use_tensorboard: bool = True
    detect_anomaly: bool = False

    def __post_init__(self) -> None:
        for option in (self.early_stopping_criterion, *self.best_model_criterion):
            if len(option) != 3 or option[2] not in ("min", "max"):
                raise ConfigError(f"criterion {','.join(option)} must read PHASE,KEY,min or PHASE,KEY,max")
        if len(self.val_scheduler_criterion) != 2:
            raise ConfigError("--val_scheduler_criterion takes two words: PHASE KEY")
        if not self.keep_nbest_models or min(self.keep_nbest_models) < 0:
            raise ConfigError("--keep_nbest_models takes at least one number, none below 0")
        if self.accum_grad < 1:
            raise ConfigError("--accum_grad must be at least 1")
        if self.train_dtype not in TRAIN_DTYPES or self.amp_dtype not in AMP_DTYPES:
            raise ConfigError(f"--train_dtype is one of {TRAIN_DTYPES}, --amp_dtype one of {AMP_DTYPES}")
        if self.use_amp and self.train_dtype != "float32":
            raise ConfigError(f"--use_amp true needs --train_dtype float32, not {self.train_dtype}")


TRAIN_DTYPES = ("float32", "float64")
AMP_DTYPES = ("auto", "bf16", "fp16")


def add_trainer_arguments(parser: Any) -> None:
    """Add the trainer's options to an argparse parser or group (`--train_dtype` stands with the data options)."""
    default = TrainerOptions()
    add = parser.add_argument
    add("--max_epoch", type=int, default=default.max_epoch, help="Number of epochs")
    add("--max_update", type=int_or_none, default=None, help="Stop after this many optimizer updates")
    add(
        "--save_interval_steps",
        type=int,
        default=default.save_interval_steps,
        help="Also save the full state every N updates inside an epoch; 0: at the end of each epoch only",
    )
    add(
        "--patience",
        type=int_or_none,
        default=None,
        help="Stop when the best epoch lies more than this many epochs back; none: never",
    )
    add(
        "--val_scheduler_criterion",
        nargs=2,
        default=list(default.val_scheduler_criterion),
        metavar=("PHASE", "KEY"),
        help="Value given to plateau schedulers",
    )
    add(
        "--early_stopping_criterion",
        nargs=3,
        default=list(default.early_stopping_criterion),
        metavar=("PHASE", "KEY", "MODE"),
        help="Criterion of --patience",
    )
    add(
        "--best_model_criterion",
        type=str2triplet,
        nargs="+",
        default=[list(c) for c in default.best_model_criterion],
        metavar="PHASE,KEY,MODE",
        help="Criteria by which epochs are ranked and kept; keys that the model does not report are passed over",
    )
    add(
        "--keep_nbest_models",
        type=int_range(0),
        nargs="+",
        default=list(default.keep_nbest_models),
        help="Keep the union of the best max(N) epochs of each criterion and average the best N, for each N given",
    )
    add("--nbest_averaging_interval", type=int_range(0), default=0, help="Average also every N epochs; 0: at the end")
    add("--average_last", type=int_range(0), default=0, help="Also keep the last N epochs and average them")
    add("--grad_clip", type=float, default=default.grad_clip, help="Largest gradient norm; 0 or less: no clipping")
    add("--grad_clip_type", type=float, default=default.grad_clip_type, help="p of the norm; may be inf")
    add("--grad_noise", type=str2bool, default=False, help="Add Gaussian noise to the gradients, less with time")
    add("--accum_grad", type=int_range(1), default=1, help="Batches per optimizer update")
    add(
        "--max_nonfinite_steps",
        type=int_range(1),
        default=default.max_nonfinite_steps,
        help="Abort after this many consecutive updates with NaN or infinite gradients",
    )
    add("--no_forward_run", type=str2bool, default=False, help="Only read the data, to measure the loader")
    add("--resume", type=str2bool, default=False, help="Continue from OUTPUT_DIR/checkpoint/last.pt if it exists")
    add("--use_amp", type=str2bool, default=False, help="Automatic mixed precision")
    add("--amp_dtype", choices=AMP_DTYPES, default="auto", help="auto: bf16 where the device has it, else fp16")
    add("--log_interval", type=int_or_none, default=None, help="Batches per log line; none: about 20 lines an epoch")
    add("--use_matplotlib", type=str2bool, default=True, help="Draw a curve of each value in OUTPUT_DIR/images")
    add("--use_tensorboard", type=str2bool, default=True, help="Write OUTPUT_DIR/tensorboard")
    add("--detect_anomaly", type=str2bool, default=False, help="Let autograd name the operation that gave NaN (slow)")


def options_from_args(args: argparse.Namespace) -> TrainerOptions:
    """The trainer's record from parsed arguments; lists (from YAML or the command line) become tuples."""
    values = {field.name: _tuples(getattr(args, field.name)) for field in fields(TrainerOptions)}
    criteria = values["best_model_criterion"]
    values["best_model_criterion"] = tuple(str2triplet(c) if isinstance(c, str) else c for c in criteria)
    if isinstance(values["keep_nbest_models"], int):
        values["keep_nbest_models"] = (values["keep_nbest_models"],)
    return TrainerOptions(**values)


def _tuples(value: Any) -> Any:
    if isinstance(value, Sequence) and not isinstance(value, str):
        return tuple(_tuples(member) for member in value)
    return value
