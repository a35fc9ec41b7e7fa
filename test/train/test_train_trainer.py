"""The loop does what its options say: exact weighting, accumulation, NaN, stopping, files."""

from __future__ import annotations

import json
import logging
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from train_toy import ToyData, ToyModel, toy_trainer

from funasr.train.trainer import NonFiniteError
from funasr.utils.errors import ConfigError, DataError
from funasr.utils.weights import load_plain, load_weights


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor], atol: float = 0.0) -> bool:
    return a.keys() == b.keys() and all(torch.allclose(a[k], b[k], rtol=0, atol=atol) for k in a)


def test_training_learns_and_writes_its_files(tmp_path: Path) -> None:
    trainer = toy_trainer(tmp_path, {"max_epoch": 3, "keep_nbest_models": (2, 1)})
    result = trainer.run()
    assert (result.reason, result.epoch, result.num_updates) == ("max_epoch", 3, 18)
    reporter = trainer.reporter
    assert reporter.get_value("valid", "loss", 3) < reporter.get_value("valid", "loss", 1)
    best = reporter.best_epoch("valid", "loss", "min")
    assert same(
        load_weights(tmp_path / "checkpoint/valid.loss.best.pt"), load_weights(tmp_path / f"checkpoint/epoch.{best}.pt")
    )
    assert (tmp_path / "valid.loss.ave_2best.pt").is_file() and (tmp_path / "valid.loss.ave_1best.pt").is_file()
    assert same(load_weights(tmp_path / "valid.acc.ave.pt"), load_weights(tmp_path / "valid.acc.ave_2best.pt"))
    assert result.final_model == tmp_path / "valid.acc.ave.pt"
    assert not list(tmp_path.rglob("*.part"))
    events = [json.loads(line) for line in (tmp_path / "log/metrics.jsonl").read_text().splitlines()]
    assert [e["event"] for e in events].count("valid_epoch") == 3
    assert events[0]["values"]["frames_per_second"] > 0 and 0 < events[0]["values"]["padding"] < 1


def test_accumulation_equals_one_big_batch(tmp_path: Path) -> None:
    """Batches of 4 and 2 utterances with other numbers of frames, and a remainder at the end of the epoch."""

    class Regrouped(ToyData):
        def build_iter(self, epoch: int, skip: int = 0) -> Any:
            parts = list(ToyData(5, 4).build_iter(epoch))
            for start in range(0, 5, 2):
                group = parts[start : start + 2]
                ids = [i for g in group for i in g[0]]
                speech = torch.nn.utils.rnn.pad_sequence([x for g in group for x in g[1]["speech"]], batch_first=True)
                yield ids, {"speech": speech, "speech_lengths": torch.cat([g[1]["speech_lengths"] for g in group])}

    small, big = (tmp_path / name for name in ("small", "big"))
    one = toy_trainer(small, {"accum_grad": 2}, ToyData(5), optim=("sgd", {}))
    two = toy_trainer(big, {}, Regrouped(), optim=("sgd", {}))
    assert one.run().num_updates == two.run().num_updates == 6
    assert same(one.model.state_dict(), two.model.state_dict(), atol=1e-6)
    assert one.reporter.get_value("train", "loss", 1) == pytest.approx(
        two.reporter.get_value("train", "loss", 1), rel=1e-5
    )


def test_first_update_is_the_weighted_mean_gradient(tmp_path: Path) -> None:
    trainer = toy_trainer(tmp_path, {"max_update": 1, "grad_clip": 0}, optim=("sgd", {"lr": 1.0}), scheduler=(None, {}))
    model = ToyModel()
    loss, _, _ = model(**next(iter(ToyData().build_iter(1)))[1])
    loss.backward()
    trainer.run()
    for (name, new), old in zip(trainer.model.named_parameters(), model.parameters()):
        assert torch.allclose(new, old - old.grad, atol=1e-6), name


def test_validation_is_weighted_by_frames(tmp_path: Path) -> None:
    trainer = toy_trainer(tmp_path, {"max_epoch": 1}, valid=ToyData(3))
    trainer.run()
    total = weight = 0.0
    with torch.no_grad():
        for _, batch in ToyData(3).build_iter(1):
            loss, _, w = trainer.model(**batch)
            total, weight = total + float(loss) * float(w), weight + float(w)
    assert trainer.reporter.get_value("valid", "loss") == pytest.approx(total / weight, rel=1e-6)


def test_clipping_bounds_the_step(tmp_path: Path) -> None:
    trainer = toy_trainer(
        tmp_path, {"max_update": 1, "grad_clip": 0.01}, optim=("sgd", {"lr": 1.0}), scheduler=(None, {})
    )
    before = [p.detach().clone() for p in trainer.model.parameters()]
    trainer.run()
    moved = math.sqrt(sum(float((a - b).detach().square().sum()) for a, b in zip(before, trainer.model.parameters())))
    assert moved == pytest.approx(0.01, rel=1e-3)
    assert trainer.reporter.get_value("train", "grad_norm") > 0.01


def test_gradient_noise_changes_training_and_repeats(tmp_path: Path) -> None:
    runs = [toy_trainer(tmp_path / str(i), {"grad_noise": i > 0, "max_epoch": 1}) for i in range(3)]
    states = [(run.run(), run.model.state_dict())[1] for run in runs]
    assert not same(states[0], states[1]) and same(states[1], states[2])


def test_nan_batch_is_left_out_and_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    trainer = toy_trainer(tmp_path, {"max_epoch": 1}, ToyData(nan_at=[(1, 2)]))
    with caplog.at_level(logging.WARNING):
        result = trainer.run()
    assert result.num_updates == 5 and trainer.progress.nonfinite_steps == 1
    assert "e1b2u0" in caplog.text and "e1b1u0" not in caplog.text
    assert all(torch.isfinite(p).all() for p in trainer.model.parameters())
    assert math.isfinite(trainer.reporter.get_value("train", "loss"))
    assert trainer.schedules[0].scheduler.last_epoch == 5  # not stepped for the update left out


def test_too_many_nan_updates_abort(tmp_path: Path) -> None:
    trainer = toy_trainer(tmp_path, {"max_nonfinite_steps": 3}, ToyData(nan_at=[(1, i) for i in range(1, 6)]))
    with pytest.raises(NonFiniteError, match="e1b3u0"):
        trainer.run()


def test_an_epoch_of_nan_only_aborts(tmp_path: Path) -> None:
    with pytest.raises(NonFiniteError, match="epoch 1"):
        toy_trainer(tmp_path, {}, ToyData(nan_at=[(1, i) for i in range(6)])).run()


def test_damaged_batch_takes_no_update(tmp_path: Path) -> None:
    trainer = toy_trainer(tmp_path, {"max_epoch": 1}, ToyData(empty_at=[(1, 0), (1, 3)]))
    assert trainer.run().num_updates == 4 and trainer.progress.nonfinite_steps == 0


@pytest.mark.parametrize("data", [ToyData(0), ToyData(2, empty_at=[(1, 0), (1, 1)])])
def test_no_usable_data_is_an_error(tmp_path: Path, data: ToyData) -> None:
    with pytest.raises(DataError, match="no usable training batch"):
        toy_trainer(tmp_path, {}, data).run()


def test_early_stopping(tmp_path: Path) -> None:
    options = {"max_epoch": 9, "patience": 2, "early_stopping_criterion": ("valid", "loss", "max")}
    result = toy_trainer(tmp_path, options, valid=ToyData(1)).run()
    assert (result.reason, result.epoch) == ("patience", 4)  # best is epoch 1: the loss falls, and high counts as good


def test_early_stopping_with_an_unknown_key_lists_the_keys(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="valid: loss, acc"):
        toy_trainer(tmp_path, {"patience": 1, "early_stopping_criterion": ("valid", "wer", "min")}).run()


def test_max_update(tmp_path: Path) -> None:
    result = toy_trainer(tmp_path, {"max_epoch": 9, "max_update": 8}).run()
    assert (result.reason, result.num_updates, result.epoch) == ("max_update", 8, 2)


def test_plateau_schedule_gets_the_validation_value(tmp_path: Path) -> None:
    plateau = ("reducelronplateau", {"patience": 0, "mode": "max", "factor": 0.5})
    trainer = toy_trainer(tmp_path, {"max_epoch": 3}, optim=("sgd", {"lr": 0.1}), scheduler=plateau)
    trainer.run()
    assert trainer.optimizers[0].param_groups[0]["lr"] == pytest.approx(0.1 * 0.5**2)


def test_pruning_keeps_the_union_of_nbest_and_the_last(tmp_path: Path) -> None:
    criteria = (("valid", "loss", "min"), ("valid", "loss", "max"))
    trainer = toy_trainer(tmp_path, {"max_epoch": 5, "keep_nbest_models": (1,), "best_model_criterion": criteria})
    trainer.run()
    ranked = trainer.reporter.sort_epochs("valid", "loss", "min")
    assert trainer.checkpoints.epochs() == sorted({ranked[0], ranked[-1], 5})


def test_averaging_interval_and_last(tmp_path: Path) -> None:
    toy_trainer(tmp_path, {"max_epoch": 3, "nbest_averaging_interval": 2, "average_last": 2}).run()
    assert (tmp_path / "valid.loss.ave.till2epoch.pt").is_file()
    files = [load_weights(tmp_path / f"checkpoint/epoch.{n}.pt") for n in (2, 3)]
    mean = {k: ((files[0][k].double() + files[1][k].double()) / 2).float() for k in files[0]}
    assert same(load_weights(tmp_path / "last.ave_2.pt"), mean)


def test_bf16(tmp_path: Path) -> None:
    seen = []
    model = ToyModel()
    model.net[0].register_forward_hook(lambda *args: seen.append(args[2].dtype))
    trainer = toy_trainer(tmp_path, {"use_amp": True, "max_epoch": 3}, model=model)
    trainer.run()
    assert set(seen) == {torch.bfloat16} and trainer.precision.scaler is None
    assert next(model.parameters()).dtype == torch.float32
    assert trainer.reporter.get_value("valid", "loss", 3) < trainer.reporter.get_value("valid", "loss", 1)


def test_fp16_on_a_cpu_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="bf16"):
        toy_trainer(tmp_path, {"use_amp": True, "amp_dtype": "fp16"})


def test_float64(tmp_path: Path) -> None:
    trainer = toy_trainer(tmp_path, {"train_dtype": "float64", "max_epoch": 1}, model=ToyModel().double())
    assert trainer.run().num_updates == 6


def test_no_forward_run_only_reads(tmp_path: Path) -> None:
    trainer = toy_trainer(tmp_path, {"no_forward_run": True})
    before = {k: v.clone() for k, v in trainer.model.state_dict().items()}
    assert trainer.run().num_updates == 0
    assert trainer.model.calls == 0 and same(before, trainer.model.state_dict())


def test_anomaly_mode_is_on_while_training_only(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="nan"), pytest.warns(UserWarning):
        toy_trainer(tmp_path, {"detect_anomaly": True}, ToyData(nan_at=[(1, 0)])).run()
    assert not torch.is_anomaly_enabled()


def test_frontend_makes_features_without_gradient(tmp_path: Path) -> None:
    class Frames(torch.nn.Module):
        fs = 100

        def forward(self, wave: torch.Tensor, lengths: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            assert not torch.is_grad_enabled()
            return wave[:, : wave.size(1) // 4 * 4].unflatten(1, (-1, 4)), lengths // 4

    class Waves(ToyData):
        def build_iter(self, epoch: int, skip: int = 0) -> Any:
            for ids, batch in super().build_iter(epoch, skip):
                yield ids, {"speech": batch["speech"].flatten(1), "speech_lengths": batch["speech_lengths"] * 4}

    plain, waves = tmp_path / "plain", tmp_path / "waves"
    one = toy_trainer(plain)
    two = toy_trainer(waves, data=Waves(), valid=Waves(2), frontend=Frames())
    one.run()
    two.run()
    assert same(one.model.state_dict(), two.model.state_dict())
    first = json.loads((waves / "log/metrics.jsonl").read_text().splitlines()[0])
    assert first["values"]["audio_hours_per_hour"] > 0


def test_curves_and_tensorboard(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    toy_trainer(tmp_path, {"use_tensorboard": True, "use_matplotlib": True, "max_epoch": 1}).run()
    assert (tmp_path / "images/loss.png").stat().st_size > 0
    assert list((tmp_path / "tensorboard/train").glob("events*")) and list(
        (tmp_path / "tensorboard/valid").glob("events*")
    )


def test_state_holds_plain_data_only(tmp_path: Path) -> None:
    toy_trainer(tmp_path, {"max_epoch": 1}).run()
    state = load_plain(tmp_path / "checkpoint/last.pt")
    assert state["progress"]["num_updates"] == 6 and state["best"]["valid,loss,min"] == 1
