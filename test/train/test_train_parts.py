"""The parts of training by themselves: averages, reporter, optimizers, schedules, initial weights, options."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from train_toy import ToyData, ToyModel, toy_trainer

from funasr.bin.average_checkpoints import main as average_main
from funasr.train.average import average_files, average_nbest
from funasr.train.checkpoint import CheckpointDir
from funasr.train.collect_stats import collect_stats
from funasr.train.init_param import InitParam, freeze_parameters, load_init_params
from funasr.train.optimizers import OPTIMIZERS, build_optimizer
from funasr.train.options import TrainerOptions, add_trainer_arguments, options_from_args
from funasr.train.reporter import Reporter, Tally, means
from funasr.train.schedulers import SCHEDULERS, build_scheduler
from funasr.utils.errors import ConfigError
from funasr.utils.weights import load_into, load_plain, load_weights

# --- averages


def epochs_of(directory: Path, values: list[float]) -> Reporter:
    """Epoch n holds values[n-1] as weight and as validation loss."""
    reporter = Reporter()
    (directory / "checkpoint").mkdir()
    for epoch, value in enumerate(values, 1):
        state = {"w": torch.full((2,), value), "count": torch.tensor(epoch)}
        torch.save(state, directory / f"checkpoint/epoch.{epoch}.pt")
        reporter.set(epoch, "valid", {"loss": value})
    return reporter


def test_several_averages_do_not_disturb_each_other(tmp_path: Path) -> None:
    """Epochs 1, 3, 5 with [3, 2]: 3-best 3.0, 2-best 2.0, for every criterion that shares them."""
    reporter = epochs_of(tmp_path, [1.0, 3.0, 5.0])
    criteria = [("valid", "loss", "min"), ("train", "acc", "max")]
    assert list(average_nbest(tmp_path, reporter, criteria, [3, 2])) == [("valid", "loss")]
    assert load_weights(tmp_path / "valid.loss.ave_3best.pt")["w"].tolist() == [3.0, 3.0]
    two = load_weights(tmp_path / "valid.loss.ave_2best.pt")
    assert two["w"].tolist() == [2.0, 2.0] and two["w"].dtype == torch.float32 and two["count"] == 2
    assert load_weights(tmp_path / "valid.loss.ave.pt")["w"].tolist() == [3.0, 3.0]


def test_fewer_epochs_than_asked_for_gives_the_best(tmp_path: Path) -> None:
    average_nbest(tmp_path, epochs_of(tmp_path, [3.0, 1.0]), [("valid", "loss", "min")], [10])
    assert load_weights(tmp_path / "valid.loss.ave.pt")["w"].tolist() == [1.0, 1.0]


def test_averaging_different_models_is_an_error(tmp_path: Path) -> None:
    torch.save({"a": torch.zeros(1)}, tmp_path / "a.pt")
    torch.save({"b": torch.zeros(1)}, tmp_path / "b.pt")
    with pytest.raises(ConfigError, match="same parameters"):
        average_files([tmp_path / "a.pt", tmp_path / "b.pt"])


def test_average_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    reporter = epochs_of(tmp_path, [1.0, 3.0, 5.0])
    CheckpointDir(tmp_path).save_state({"reporter": reporter.state_dict()})
    assert average_main([str(tmp_path), "--criterion", "valid,loss,max", "-n", "2"]) == 0
    assert load_weights(tmp_path / "valid.loss.ave.pt")["w"].tolist() == [4.0, 4.0]
    out = tmp_path / "out.pt"
    assert average_main([str(tmp_path), "--mode", "last", "-n", "3", "--output", str(out)]) == 0
    assert load_weights(out)["w"].tolist() == [3.0, 3.0]
    assert average_main([str(tmp_path), "--criterion", "valid,wer,min"]) == 1
    assert "loss" in capsys.readouterr().err


# --- reporter


def test_tally_weighs_and_leaves_out_what_is_not_finite() -> None:
    tally = Tally()
    tally.add({"a": torch.tensor(1.0), "b": 2.0, "c": None}, torch.tensor(1.0, dtype=torch.float64))
    tally.add({"a": torch.tensor(4.0, dtype=torch.float64)}, 3)
    tally.add({"a": math.nan, "d": math.inf}, 5)
    assert tally.means() == pytest.approx({"a": 13 / 4, "b": 2.0, "d": math.nan}, nan_ok=True)
    assert means([tally.sums, Tally({"b": [6.0, 2.0]}).sums])["b"] == pytest.approx(8 / 3)


def test_ties_keep_the_earlier_epoch_and_nan_is_never_best() -> None:
    reporter = Reporter()
    for epoch, value in enumerate([math.nan, 2.0, 1.0, 1.0], 1):
        reporter.set(epoch, "valid", {"loss": value})
    assert reporter.sort_epochs("valid", "loss", "min") == [3, 4, 2]
    assert reporter.best_epoch("valid", "loss", "max") == 2
    assert reporter.best_epoch("valid", "acc", "max") is None
    assert not reporter.exhausted(1, ("valid", "loss", "min")) and reporter.exhausted(0, ("valid", "loss", "min"))


# --- optimizers and schedules


@pytest.mark.parametrize("name", list(OPTIMIZERS))
def test_every_optimizer_trains_and_its_state_resumes(name: str, tmp_path: Path) -> None:
    conf = {"lr": 0.001}
    whole = toy_trainer(tmp_path / "a", {"max_epoch": 2}, ToyData(3), optim=(name, conf), scheduler=(None, {}))
    whole.run()
    for epochs in (1, 2):
        options = {"max_epoch": epochs, "resume": True}
        cut = toy_trainer(tmp_path / "b", options, ToyData(3), optim=(name.upper(), conf), scheduler=(None, {}))
        cut.run()
    for a, b, start in zip(whole.model.parameters(), cut.model.parameters(), ToyModel().parameters()):
        assert torch.equal(a, b) and not torch.equal(a, start)


def test_no_weight_decay_for_biases() -> None:
    optimizer = build_optimizer(ToyModel(), "adamw", {"weight_decay": 0.1}, exclude_weight_decay=True)
    decays = {p.dim(): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    assert decays == {2: 0.1, 1: 0.0}


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: build_optimizer(ToyModel(), "adam", {"learning_rate": 1}), r"optim_conf.*'learning_rate'"),
        (lambda: build_optimizer(ToyModel(), "adan", {}), "adam"),
        (lambda: build_optimizer(ToyModel(), "adam", {"lr": -1.0}), "optim_conf: Adam"),
        (lambda: build_optimizer(ToyModel().requires_grad_(False), "adam", {}), "frozen"),
        (lambda: schedule("warmuplr", warmup_step=3), "warmup_steps"),
        (lambda: schedule("warmup", warmup_steps=3), "warmuplr"),
        (lambda: schedule("warmuplr", warmup_steps=0), "above 0"),
        (lambda: schedule("tri_stage"), "max_steps"),
        (lambda: schedule(None, warmup_steps=3), "no scheduler"),
    ],
)
def test_wrong_options_are_named(call: Callable[[], Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        call()


def schedule(name: str | None, **conf: Any) -> Any:
    return build_scheduler(torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=2.0), name, conf)


def rates(name: str, steps: int, **conf: Any) -> list[float]:
    """Learning rate of update 1, 2, ... with base 2.0."""
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=2.0)
    built = build_scheduler(optimizer, name, conf)
    assert built is not None
    found = []
    for _ in range(steps):
        found.append(float(optimizer.param_groups[0]["lr"]))
        optimizer.step()
        built.scheduler.step()
    return found


@pytest.mark.parametrize(
    ("name", "conf", "formula"),
    [
        ("warmuplr", {"warmup_steps": 4}, lambda s: 4**0.5 * min(s**-0.5, s * 4**-1.5)),
        ("noamlr", {"model_size": 16, "warmup_steps": 4}, lambda s: 16**-0.5 * min(s**-0.5, s * 4**-1.5)),
        ("custom_lambdalr", {"warmup_steps": 4, "total_steps": 8}, lambda s: max(0, min(s / 4, (8 - s) / 4))),
        (
            "warmupsteplr",
            {"warmup_steps": 2, "steps_per_epoch": 3},
            lambda s: s / 2 if s <= 2 else 0.1 ** ((s - 2) // 3),
        ),
        (
            "cosinewarmuplr",
            {"warmup_steps": 2, "max_steps": 6},
            lambda s: s / 2 if s < 2 else 0.5 + 0.5 * math.cos(math.pi * min((s - 2) / 4, 1)),
        ),
        (
            "exponentialdecaywarmup",
            {"warmup_steps": 2, "max_steps": 6},
            lambda s: s / 2 if s < 2 else 0.01 ** min((s - 2) / 4, 1),
        ),
        (
            "piecewiselinearwarmuplr",
            {"warmup_steps_list": [0, 2, 4], "warmup_lr_list": [0.0, 1.0, 5.0]},
            lambda s: [0.25, 0.5, 1.5, 2.5][s - 1] if s <= 4 else 2.5 * (4 / s) ** 0.5,
        ),
    ],
)
def test_schedule_formulas(name: str, conf: dict[str, Any], formula: Callable[[int], float]) -> None:
    assert rates(name, 12, **conf) == pytest.approx([2 * formula(s) for s in range(1, 13)])


def test_tri_stage() -> None:
    found = rates("tri_stage", 12, max_steps=10, phase_ratio=[0.2, 0.4, 0.4], init_lr_scale=0.1, final_lr_scale=0.01)
    decay = [2 * 0.01 ** (i / 4) for i in (1, 2, 3, 4)]
    assert found == pytest.approx([1.1, 2, 2, 2, 2, 2, *decay, 0.02, 0.02])
    assert found == pytest.approx(
        rates("tristagelr", 12, max_steps=10, warmup_ratio=0.2, hold_ratio=0.4, decay_ratio=0.4, init_lr_scale=0.1)
    )


CONF: dict[str, dict[str, Any]] = {
    "tri_stage": {"max_steps": 20},
    "tristagelr": {"max_steps": 20},
    "piecewiselinearwarmuplr": {"warmup_steps_list": [0, 9], "warmup_lr_list": [0.0, 0.1]},
    "exponentialdecaywarmup": {"max_steps": 20, "warmup_steps": 3},
    "cosinewarmuplr": {"max_steps": 20, "warmup_steps": 3},
    "cycliclr": {"base_lr": 0.1, "max_lr": 0.3, "step_size_up": 4},
    "onecyclelr": {"max_lr": 0.3, "total_steps": 20},
    "cosineannealingwarmrestarts": {"T_0": 5},
    "steplr": {"step_size": 2},
    "multisteplr": {"milestones": [3]},
    "exponentiallr": {"gamma": 0.9},
    "cosineannealinglr": {"T_max": 9},
    "reducelronplateau": {"patience": 0},
}


@pytest.mark.parametrize("name", list(SCHEDULERS))
def test_every_schedule_resumes_from_its_file(name: str, tmp_path: Path) -> None:
    conf = CONF.get(name, {})
    optim, data = ("sgd", {"lr": 0.01, "momentum": 0.9}), ToyData(2)
    whole = toy_trainer(tmp_path / "a", {"max_epoch": 2}, data, optim=optim, scheduler=(name, conf))
    whole.run()
    for epochs in (1, 2):
        options = {"max_epoch": epochs, "resume": True}
        cut = toy_trainer(tmp_path / "b", options, data, optim=optim, scheduler=(name, conf))
        cut.run()
    for a, b in zip(whole.model.parameters(), cut.model.parameters()):
        assert torch.equal(a, b)
    assert whole.optimizers[0].param_groups[0]["lr"] == cut.optimizers[0].param_groups[0]["lr"]


# --- weights, init_param, freeze_param


@pytest.mark.parametrize(
    "wrap",
    [
        lambda s: s,
        lambda s: {"model": s, "optimizers": [], "reporter": {"epoch": 3}},
        lambda s: {"state_dict": {f"module.{k}": v for k, v in s.items()}, "val_acc": np.float64(0.5), "epoch": 2},
        lambda s: {"model_state_dict": s, "step": None},
    ],
)
def test_weight_files_of_all_kinds(wrap: Callable[[Any], Any], tmp_path: Path) -> None:
    state = ToyModel().state_dict()
    torch.save(wrap(state), tmp_path / "model.pb")
    loaded = load_weights(tmp_path / "model.pb")
    assert loaded.keys() == state.keys() and all(torch.equal(loaded[k], state[k]) for k in state)


def test_safetensors(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    save_file(ToyModel().state_dict(), tmp_path / "model.safetensors")
    assert load_weights(tmp_path / "model.safetensors").keys() == ToyModel().state_dict().keys()
    (tmp_path / "model.safetensors").write_bytes(b"12345678abc")
    with pytest.raises(ConfigError, match="safetensors"):
        load_weights(tmp_path / "model.safetensors")


class Evil:
    def __reduce__(self) -> Any:
        return (print, ("code was run",))


def test_bad_files_are_refused_by_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "model.pt"
    with pytest.raises(ConfigError, match=r"model\.pt does not exist"):
        load_weights(path)
    torch.save({"w": torch.zeros(3), "x": Evil()}, path)
    with pytest.raises(ConfigError, match=r"refused.*print"):
        load_weights(path)
    assert "code was run" not in capsys.readouterr().out
    torch.save({"w": torch.zeros(300)}, path)
    whole = path.read_bytes()
    for content in (
        whole[: len(whole) // 2],
        b"not weights at all",
        b"",
        b"version https://git-lfs.github.com/spec/v1",
    ):
        path.write_bytes(content)
        with pytest.raises(ConfigError, match=r"model\.pt"):
            load_weights(path)
    torch.save({"epoch": 3}, path)
    with pytest.raises(ConfigError, match="no weights"):
        load_weights(path)


def net(**parts: int) -> nn.ModuleDict:
    return nn.ModuleDict({name: nn.Linear(2, size) for name, size in parts.items()})


def test_load_into_reports_and_refuses() -> None:
    model = net(encoder=3, decoder=4)
    state = {**net(encoder=3, ctc=2).state_dict(), "decoder.weight": torch.zeros(9, 2)}
    with pytest.raises(ConfigError, match=r"ctc\.weight.*decoder\.weight \[9, 2\]"):
        load_into(model, state)
    report = load_into(model, state, ignore_mismatch=True)
    assert report.loaded == ("encoder.weight", "encoder.bias") and report.missing == ("decoder.bias",)
    assert report.unexpected == ("ctc.weight", "ctc.bias") and report.mismatched[0][0] == "decoder.weight"
    assert torch.equal(model["encoder"].weight, state["encoder.weight"])
    ok = load_into(model, state, excludes=("ctc", "decoder"))
    assert len(ok.excluded) == 3 and ok.missing == ("decoder.weight", "decoder.bias")


def test_scope_map() -> None:
    model = nn.ModuleDict({"asr": net(encoder=3)})
    state = net(encoder=3).state_dict()
    assert len(load_into(model, state, scope_map=["encoder", "asr.encoder"]).loaded) == 2
    assert len(load_into(model, state, scope_map="none,asr").loaded) == 2
    assert len(load_into(net(encoder=3), model.state_dict(), scope_map="asr,none").loaded) == 2


def test_init_param_forms(tmp_path: Path) -> None:
    file = str(tmp_path / "a.pt")
    torch.save(net(encoder=3, decoder=4).state_dict(), file)
    source = load_weights(file)
    model = net(encoder=3, decoder=4)
    load_init_params(model, [f"{file}:decoder:decoder"])
    assert torch.equal(model["decoder"].weight, source["decoder.weight"])
    assert not torch.equal(model["encoder"].weight, source["encoder.weight"])
    load_init_params(model, [{"file": file, "exclude": "decoder"}])
    assert torch.equal(model["encoder"].weight, source["encoder.weight"])
    assert len(load_init_params(net(encoder=3), [f"{file}:::decoder"])[0].loaded) == 2
    assert InitParam.parse("f::decoder") == InitParam("f", "", "decoder", ())
    for spec, message in [
        (f"{file}:ctc", "nothing under 'ctc'"),
        (f"{file}:decoder:decodr", "decoder"),
        (f"{file}:a:b:c:d", "must read"),
        (f"{file}:decoder:encoder", "do not fit"),
    ]:
        with pytest.raises(ConfigError, match=message):
            load_init_params(model, [spec])


def test_freeze(tmp_path: Path) -> None:
    model = ToyModel()
    assert freeze_parameters(model, ["net.0"]) == 2
    before = model.net[0].weight.clone()
    toy_trainer(tmp_path, {"max_epoch": 1}, model=model).run()
    assert torch.equal(model.net[0].weight, before) and not model.net[0].weight.requires_grad
    with pytest.raises(ConfigError, match=r"matches no parameter.*net\.3"):
        freeze_parameters(model, ["net.33"])
    with pytest.raises(ConfigError, match="matches no parameter"):
        freeze_parameters(model, ["ne"])


# --- statistics pass


def test_collect_stats(tmp_path: Path) -> None:
    batches = {"train": ToyData(3).build_iter(1), "valid": [*ToyData(1).build_iter(2), ([], {})]}
    sums = collect_stats(ToyModel(), None, batches, tmp_path, write_collected_feats=True)["train"]["feats"]
    frames = torch.cat([x[:n] for _, b in ToyData(3).build_iter(1) for x, n in zip(b["speech"], b["speech_lengths"])])
    stats = np.load(tmp_path / "train/feats_stats.npz")
    assert stats["count"] == len(frames)
    np.testing.assert_allclose(stats["sum"], frames.double().sum(0))
    mean, std = sums.mean_and_std()
    np.testing.assert_allclose(mean, frames.double().mean(0))
    np.testing.assert_allclose(std, frames.double().std(0, unbiased=False))
    assert (tmp_path / "train/speech_shape").read_text().splitlines()[0] == "e1b0u0 7,4"
    assert (tmp_path / "valid/batch_keys").read_text() == "speech\n"
    assert (tmp_path / "valid/stats_keys").read_text() == "feats\n"
    key, path = (tmp_path / "train/collect_feats/feats.scp").read_text().splitlines()[0].split()
    assert key == "e1b0u0" and np.load(path).shape == (7, 4)


# --- options


def parse(*words: str, **defaults: Any) -> TrainerOptions:
    parser = argparse.ArgumentParser()
    add_trainer_arguments(parser)
    parser.set_defaults(train_dtype="float32", **defaults)
    return options_from_args(parser.parse_args(words))


def test_defaults_of_the_command_line_are_those_of_the_record() -> None:
    assert parse() == TrainerOptions()


def test_options_from_command_line_and_yaml() -> None:
    options = parse("--best_model_criterion", "valid,wer,min", "train,acc,max", "--keep_nbest_models", "5", "3")
    assert options.best_model_criterion == (("valid", "wer", "min"), ("train", "acc", "max"))
    assert options.keep_nbest_models == (5, 3)
    assert parse(best_model_criterion=[["valid", "acc", "max"]]).best_model_criterion == (("valid", "acc", "max"),)


@pytest.mark.parametrize(
    "wrong",
    [
        {"best_model_criterion": (("valid", "acc", "best"),)},
        {"accum_grad": 0},
        {"amp_dtype": "int8"},
        {"use_amp": True, "train_dtype": "float64"},
        {"keep_nbest_models": ()},
    ],
)
def test_wrong_values_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        TrainerOptions(**wrong)


def test_saved_files_need_no_pickle_code(tmp_path: Path) -> None:
    toy_trainer(tmp_path, {"max_epoch": 1}, optim=("radam", {})).run()
    assert load_plain(tmp_path / "checkpoint/last.pt")["config_hash"] == ""
