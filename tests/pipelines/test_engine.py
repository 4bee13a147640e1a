import pytest
from torch import nn

from pipelines.engine import deepspeed_config, parameter_groups


def test_biases_and_gains_are_not_decayed() -> None:
    module = nn.Sequential(nn.Conv3d(2, 3, 3), nn.LayerNorm(3))
    decayed, others = parameter_groups(module, 0.1)
    assert [p.ndim for p in decayed["params"]] == [5]
    assert decayed["weight_decay"] == 0.1
    assert len(others["params"]) == 3
    assert others["weight_decay"] == 0.0


def test_frozen_weights_are_left_out() -> None:
    module = nn.Linear(2, 2).requires_grad_(False)
    assert parameter_groups(module, 0.1) == []


def test_an_unknown_zero_stage_is_refused() -> None:
    with pytest.raises(ValueError, match="zero_stage must be 0, 1, 2 or 3, got 4"):
        deepspeed_config(zero_stage=4, micro_batch=1, accumulation=1, gradient_clip=1.0, bfloat16=False)
