import pytest
import torch
from torch import nn

from pipelines.ema import WeightAverage


def weight_of(average: WeightAverage) -> torch.Tensor:
    return next(average.module.parameters())


def test_average_of_known_weights_has_its_closed_form() -> None:
    module = nn.Linear(1, 1, bias=False)
    nn.init.constant_(module.weight, 5.0)
    average = WeightAverage(module, decay=0.15)
    for value in (1.0, 2.0, 3.0):
        average.update([torch.tensor([[value]])], [])
    # Decays are min(0.15, (1 + n)/(10 + n)): 0.1, then 0.15 twice.
    expected = 5.0 * 0.1 * 0.15 * 0.15 + 1.0 * 0.9 * 0.15 * 0.15 + 2.0 * 0.85 * 0.15 + 3.0 * 0.85
    assert weight_of(average).item() == pytest.approx(expected)


def test_an_update_after_several_steps_decays_as_often() -> None:
    often, seldom = (WeightAverage(nn.Linear(1, 1, bias=False), decay=0.5) for _ in range(2))
    seldom.load_state_dict(often.state_dict() | {"updates": 100})
    often.updates = 100
    for _ in range(3):
        often.update([torch.tensor([[4.0]])], [])
    seldom.update([torch.tensor([[4.0]])], [], steps=3)
    torch.testing.assert_close(weight_of(often), weight_of(seldom))


def test_state_goes_on_where_it_was_saved() -> None:
    first, second = (WeightAverage(nn.Linear(2, 2), decay=0.9) for _ in range(2))
    first.update([torch.ones(2, 2), torch.ones(2)], [])
    second.load_state_dict(first.state_dict())
    for average in (first, second):
        average.update([torch.zeros(2, 2), torch.zeros(2)], [])
    assert torch.equal(weight_of(first), weight_of(second))
    assert second.updates == 2


def test_weights_in_bfloat16_are_averaged_in_float32() -> None:
    average = WeightAverage(nn.Linear(1, 1, bias=False), decay=0.0)
    average.update([torch.full((1, 1), 1.5, dtype=torch.bfloat16)], [])
    assert weight_of(average).dtype == torch.float32
    assert weight_of(average).item() == 1.5


def test_other_numbers_of_weights_are_refused() -> None:
    average = WeightAverage(nn.Linear(1, 1), decay=0.5)
    with pytest.raises(ValueError, match="zip"):
        average.update([torch.ones(1, 1)], [])
