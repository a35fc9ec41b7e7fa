"""Weights on their way into a model: adopted without a copy, built without random numbers."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from funasr.layers.mask import length_mask, padding_mask
from funasr.utils.errors import ConfigError
from funasr.utils.weights import WithoutRandomInit, load_into, load_weights


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(4, 6)
        self.norm = nn.BatchNorm1d(6)
        self.embed = nn.Embedding(5, 4)


def test_adopted_tensors_are_not_copied():
    state = {name: value.clone() for name, value in Net().state_dict().items()}
    model = Net()
    report = load_into(model, state, adopt=True)
    assert not report.missing
    assert model.first.weight.data_ptr() == state["first.weight"].data_ptr()
    assert isinstance(model.first.weight, nn.Parameter) and model.first.weight.requires_grad
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())


def test_adopted_tensors_take_the_type_and_layout_of_the_model():
    state = {name: value.clone() for name, value in Net().state_dict().items()}
    state["first.weight"] = state["first.weight"].half().t().contiguous().t()
    model = Net()
    load_into(model, state, adopt=True)
    assert model.first.weight.dtype == torch.float32 and model.first.weight.is_contiguous()


def test_parameters_that_are_one_tensor_stay_one():
    model = Net()
    model.out = nn.Linear(4, 5, bias=False)
    model.out.weight = model.embed.weight
    state = {name: value.clone() for name, value in model.state_dict().items()}
    state["embed.weight"] += 1.0
    state["out.weight"] = state["embed.weight"].clone()
    load_into(model, state, adopt=True)
    assert model.out.weight is model.embed.weight
    assert torch.equal(model.embed.weight, state["out.weight"])


def test_building_without_random_numbers_leaves_the_generator_and_constants_alone():
    torch.manual_seed(3)
    before = torch.get_rng_state()
    with WithoutRandomInit():
        model = Net()
        drawn = torch.randn(3)  # only parameters are left as they are
    assert drawn.abs().sum() > 0
    assert torch.equal(model.norm.weight, torch.ones(6)) and torch.equal(model.norm.running_var, torch.ones(6))
    torch.manual_seed(3)
    with WithoutRandomInit():
        Net()
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(("lengths", "frames", "masked"), [([4, 4], 4, False), ([4, 3], 4, True), ([2], 4, True)])
def test_a_padding_mask_is_made_where_there_is_padding(lengths, frames, masked):
    mask = padding_mask(torch.tensor(lengths), frames)
    assert (mask is not None) == masked
    if mask is not None:
        assert torch.equal(mask, length_mask(torch.tensor(lengths), frames))


@pytest.mark.parametrize("zipped", [True, False])
def test_mapped_weights_are_those_of_the_file_and_writing_to_them_is_private(tmp_path, zipped):
    state = Net().state_dict()
    file = tmp_path / "model.pt"
    torch.save(state, file, _use_new_zipfile_serialization=zipped)
    mapped = load_weights(file, mapped=True)
    assert all(torch.equal(value, state[name]) for name, value in mapped.items())
    mapped["first.weight"].zero_()
    assert torch.equal(load_weights(file)["first.weight"], state["first.weight"])


def test_a_truncated_file_is_refused_mapped_or_not(tmp_path):
    file = tmp_path / "model.pt"
    torch.save({"a": torch.zeros(10000)}, file)
    file.write_bytes(file.read_bytes()[:20000])
    for mapped in (True, False):
        with pytest.raises(ConfigError, match=r"model\.pt is truncated or no weight file"):
            load_weights(file, mapped)
