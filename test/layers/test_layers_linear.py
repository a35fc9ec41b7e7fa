"""Linear layers for inference: whichever library multiplies, the result is that of nn.Linear."""

from __future__ import annotations

import copy
import itertools
import pickle
from pathlib import Path

import pytest
import torch
from torch import nn

from funasr.layers import linear
from funasr.layers.linear import OneDnnLinear, chained, keep_laid_out, linear_relu, possible_types, prefer_onednn
from funasr.utils.memory import FilePages
from funasr.utils.weights import load_into, load_weights


@pytest.fixture
def model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(32, 48), nn.ReLU(), nn.ModuleDict({"out": nn.Linear(48, 5, bias=False)})["out"])


@pytest.fixture
def not_intel(monkeypatch: pytest.MonkeyPatch) -> None:
    types = frozenset({torch.float32, torch.bfloat16})
    monkeypatch.setattr(linear, "possible_types", lambda: types)
    monkeypatch.setattr(linear, "onednn_types", lambda: types)


@pytest.fixture
def intel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linear, "possible_types", lambda: frozenset({torch.float32, torch.bfloat16}))
    monkeypatch.setattr(linear, "onednn_types", lambda: frozenset({torch.bfloat16}))


@pytest.mark.parametrize("rows", [1, 3, 64, 200])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(("dtype", "atol"), [(torch.float32, 1e-5), (torch.bfloat16, 1e-2)])
def test_onednn_gives_what_linear_gives(rows, bias, dtype, atol, not_intel):
    torch.manual_seed(1)
    layer = OneDnnLinear(40, 24, bias).to(dtype)
    x = torch.randn(2, rows, 40, dtype=dtype)
    expected = torch.nn.functional.linear(x, layer.weight, layer.bias)
    with torch.no_grad():
        assert torch.allclose(layer(x), expected, atol=atol)
        assert torch.allclose(layer(x.transpose(0, 1)), expected.transpose(0, 1), atol=atol)
    assert torch.allclose(layer(x[:0]), expected[:0])


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("sizes", [(25, 14, 24), (14, 25, 24)])  # of which one product is less work for many rows
def test_two_layers_give_the_same_by_one_product(sizes, bias):
    torch.manual_seed(1)
    first, second = (torch.nn.Linear(*pair, bias=bias) for pair in itertools.pairwise(sizes))
    for rows in (3, 2000):
        x = torch.randn(2, rows, sizes[0])
        expected = second(first(x))
        with torch.no_grad():
            assert torch.allclose(chained(first, second, x), expected, atol=1e-5)
        assert torch.equal(chained(first, second, x), expected)  # both layers get a gradient


def test_replacing_keeps_parameters_and_results(model, not_intel):
    x = torch.randn(100, 32)
    before, names, weights = model(x), list(model.state_dict()), list(model.parameters())
    assert prefer_onednn(model) == 2
    assert list(model.state_dict()) == names
    assert all(a is b for a, b in zip(model.parameters(), weights))
    with torch.no_grad():
        assert torch.allclose(model(x), before, atol=1e-5)
    assert prefer_onednn(model) == 0  # nothing is left to replace


def test_only_a_small_model_keeps_its_weights_twice(model, not_intel, monkeypatch):
    x, expected = torch.randn(100, 32), model[0].weight
    big = copy.deepcopy(model)
    prefer_onednn(model)
    monkeypatch.setattr(linear, "SMALL", sum(p.numel() for p in model.parameters()) // 2)
    prefer_onednn(big)
    assert model[0].laid_out() is not expected and big[0].laid_out() is big[0].weight
    with torch.no_grad():
        assert torch.allclose(model(x), big(x), atol=1e-5)


def test_new_weights_are_used(model, not_intel):
    prefer_onednn(model)
    x = torch.randn(100, 32)
    with torch.no_grad():
        model(x)
        for parameter in model.parameters():
            parameter.mul_(2.0)
        other = {name: torch.randn_like(value) for name, value in model.state_dict().items()}
        for state in (model.state_dict(), other):
            model.load_state_dict(state)
            expected = nn.functional.linear(x, model[0].weight, model[0].bias).relu() @ model[2].weight.T
            assert torch.allclose(model(x), expected, atol=1e-4)


def test_a_used_layer_can_be_copied(model, not_intel):
    prefer_onednn(model)
    x = torch.randn(100, 32)
    with torch.no_grad():
        expected = model(x)
        for copied in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
            assert torch.equal(copied(x), expected)


def test_gradients_pass_through_replaced_layers(model, not_intel):
    prefer_onednn(model)
    model(torch.randn(100, 32)).sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_another_number_type_is_left_to_torch(model, not_intel):
    prefer_onednn(model)
    with torch.no_grad():
        assert model.to(torch.bfloat16)(torch.randn(100, 32).bfloat16()).dtype == torch.bfloat16


def test_on_intel_float32_is_for_onednn_only_where_weights_lie_ready(model, intel, monkeypatch):
    x, calls = torch.randn(100, 32), []
    product = linear._onednn
    monkeypatch.setattr(linear, "_onednn", lambda *args: calls.append(args[1]) or product(*args))
    big = copy.deepcopy(model)
    assert prefer_onednn(model) == 2  # a small model, so they do
    monkeypatch.setattr(linear, "SMALL", 0)
    prefer_onednn(big)
    with torch.no_grad():
        expected = big(x)
        assert not calls
        assert torch.allclose(model(x), expected, atol=1e-5)
        assert len(calls) == 2 and not any(weight is layer.weight for weight, layer in zip(calls, (model[0], model[2])))
        model(x[:2])
        assert len(calls) == 2  # two rows are not worth it


@pytest.fixture
def mapped(tmp_path, monkeypatch, intel) -> tuple[nn.Module, Path]:
    """A model of two layers of 4 MiB, whose weights are mapped from a file, and the file."""
    torch.manual_seed(0)
    monkeypatch.setattr(linear, "SMALL", 0)
    file = tmp_path / "a name with spaces" / "model.pt"
    file.parent.mkdir()
    torch.save(nn.Sequential(nn.Linear(1024, 1024), nn.Linear(1024, 1024)).state_dict(), file)
    model = nn.Sequential(nn.Linear(1024, 1024), nn.Linear(1024, 1024))
    load_into(model, load_weights(file, mapped=True), adopt=True)
    prefer_onednn(model)
    return model, file


def resident(file: Path) -> int:
    """KiB of the file in the memory of this process."""
    _, _, after = Path("/proc/self/smaps").read_text().partition(str(file))
    return int(after.partition("Rss:")[2].split()[0]) if after else 0


needs_pages = pytest.mark.skipif(not Path("/proc/self/smaps").is_file(), reason="the system does not tell of pages")


@needs_pages
def test_a_large_model_holds_its_weights_once(mapped):
    model, file = mapped
    x = torch.randn(3, 1024)
    with torch.no_grad():
        expected = model(x)
        assert resident(file) > 8000
        assert keep_laid_out(model, file) == 2
        assert resident(file) < 200
        for rows in (1, 2, 3):
            assert torch.allclose(model(x[:rows]), expected[:rows], atol=1e-5)
        assert resident(file) < 200  # the file's weights were not asked for
        saved = torch.load(file, weights_only=True)
        assert all(torch.equal(value, saved[name]) for name, value in model.state_dict().items())


@needs_pages
def test_copies_of_a_large_model_stand_alone(mapped):
    model, file = mapped
    x = torch.randn(100, 1024)
    keep_laid_out(model, file)
    with torch.no_grad():
        expected = model(x)
        copies = [copy.deepcopy(model), pickle.loads(pickle.dumps(model))]
        file.unlink()
        assert all(torch.equal(copied(x), expected) for copied in copies)
        assert torch.allclose(model.to(torch.bfloat16)(x.bfloat16()).float(), expected, atol=0.1)


@needs_pages
def test_changed_weights_are_not_taken_from_the_file_again(mapped):
    model, file = mapped
    with torch.no_grad():
        model[1].weight.mul_(2.0)
        changed = model[1].weight.clone()
        keep_laid_out(model, file)
        assert torch.equal(model[1].weight, changed)
    pages = FilePages(file)
    assert not pages.hold(model[1].weight.data_ptr(), 8)


def test_weights_in_memory_stay_there(model, tmp_path, intel, monkeypatch):
    monkeypatch.setattr(linear, "SMALL", 0)
    prefer_onednn(model)
    torch.save(model.state_dict(), tmp_path / "model.pt")
    load_into(model, load_weights(tmp_path / "model.pt"), adopt=True)
    assert keep_laid_out(model, tmp_path / "model.pt") == 0
    assert model[0].laid_out() is model[0].weight


def test_without_onednn_the_layers_of_torch_stay(model, monkeypatch):
    monkeypatch.setattr(linear, "possible_types", frozenset)
    assert prefer_onednn(model) == 0
    assert type(model[0]) is nn.Linear


def test_a_torch_without_the_operator_is_left_alone(monkeypatch):
    def missing(*_):
        raise AttributeError("no such operator")

    monkeypatch.setattr(linear, "_onednn", missing)
    possible_types.cache_clear()
    try:
        assert possible_types() == frozenset()
    finally:
        possible_types.cache_clear()


@pytest.mark.parametrize("kind", [nn.Linear, OneDnnLinear])
@pytest.mark.parametrize("rows", [4, 100])
def test_linear_relu_keeps_its_input(kind, rows):
    layer, x = kind(6, 7), torch.randn(rows, 6)
    kept = x.clone()
    with torch.no_grad():
        assert torch.allclose(linear_relu(layer, x), layer(x).relu(), atol=1e-6)
    assert torch.equal(x, kept)
    linear_relu(layer, x).sum().backward()
    assert layer.weight.grad is not None
