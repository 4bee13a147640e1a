import pytest
import torch
from torch import nn

from pipelines.engine import build_optimizer, deepspeed_config
from pipelines.muon import MuonAdamW, orthogonalise
from pipelines.task import Optimisation

OPTIMISATION = Optimisation(
    warmup_steps=0, weight_decay=0.01, gradient_clip=1.0, ema_decay=0.9, optimizer="muon"
)


def _config(zero_stage: int) -> dict:
    return deepspeed_config(
        zero_stage=zero_stage, micro_batch=1, accumulation=1, gradient_clip=1.0, bfloat16=False
    )


@pytest.mark.parametrize("shape", [(12, 40), (40, 12), (16, 16)])
def test_singular_vectors_stay_and_singular_values_come_near_one(shape) -> None:
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    u, _, vh = torch.linalg.svd(matrix, full_matrices=False)
    seen = u.mT @ orthogonalise(matrix) @ vh.mT
    assert torch.allclose(seen, torch.diag(seen.diagonal()), atol=1e-4)
    assert seen.diagonal().min() > 0.3  # the smallest ones of a square matrix are still on their way
    assert seen.diagonal().max() < 1.3
    assert 0.7 < seen.diagonal().median() < 1.2


def test_matrices_move_as_with_torchs_own_muon() -> None:
    weights = torch.randn(24, 48, generator=torch.Generator().manual_seed(0))
    mine, theirs = (nn.Parameter(weights.clone()) for _ in range(2))
    ours = MuonAdamW([{"params": [mine], "muon": True}], lr=0.01, weight_decay=0.1)
    other = torch.optim.Muon(
        [theirs], lr=0.01, weight_decay=0.1, momentum=0.95, nesterov=True, adjust_lr_fn="match_rms_adamw"
    )
    rng = torch.Generator().manual_seed(1)
    for _ in range(5):
        mine.grad = torch.randn(24, 48, generator=rng)
        theirs.grad = mine.grad.clone()
        ours.step()
        other.step()
    # torch iterates in bfloat16, hence no closer than that
    moved = (theirs - weights).detach().norm()
    assert (mine - theirs).detach().norm() < 0.02 * moved


def test_a_kernel_is_the_matrix_of_its_outputs() -> None:
    weights = torch.randn(6, 4, 3, 3, 3, generator=torch.Generator().manual_seed(0))
    kernel, matrix = nn.Parameter(weights.clone()), nn.Parameter(weights.flatten(1).clone())
    optimizer = MuonAdamW([{"params": [kernel, matrix], "muon": True}], lr=0.1)
    kernel.grad = torch.randn(weights.shape, generator=torch.Generator().manual_seed(1))
    matrix.grad = kernel.grad.flatten(1).clone()
    optimizer.step()
    assert torch.allclose(kernel.flatten(1), matrix, atol=1e-6)
    assert not torch.allclose(kernel, weights, atol=1e-3)


def test_other_groups_are_adamws() -> None:
    mine, theirs = (nn.Parameter(torch.linspace(-1, 1, 7)) for _ in range(2))
    ours = MuonAdamW([{"params": [mine]}], lr=0.01, betas=(0.9, 0.98), weight_decay=0.1)
    other = torch.optim.AdamW([theirs], lr=0.01, betas=(0.9, 0.98), weight_decay=0.1)
    rng = torch.Generator().manual_seed(0)
    for _ in range(4):
        mine.grad = torch.randn(7, generator=rng)
        theirs.grad = mine.grad.clone()
        ours.step()
        other.step()
    assert torch.equal(mine, theirs)


def test_a_saved_state_goes_on_as_if_uninterrupted() -> None:
    def run(interrupted: bool) -> torch.Tensor:
        weight = nn.Parameter(torch.ones(4, 6))
        optimizer = MuonAdamW([{"params": [weight], "muon": True}], lr=0.1)
        rng = torch.Generator().manual_seed(0)
        for step in range(4):
            if interrupted and step == 2:
                state = optimizer.state_dict()
                optimizer = MuonAdamW([{"params": [weight], "muon": True}], lr=0.1)
                optimizer.load_state_dict(state)
            weight.grad = torch.randn(4, 6, generator=rng)
            optimizer.step()
        return weight.detach()

    assert torch.equal(run(True), run(False))


def test_a_bias_cannot_be_made_orthogonal() -> None:
    with pytest.raises(ValueError, match="fewer than two dimensions"):
        MuonAdamW([{"params": [nn.Parameter(torch.zeros(3))], "muon": True}])


def test_the_engine_gives_muon_the_kernels_and_adamw_the_rest() -> None:
    module = nn.Sequential(nn.Conv3d(2, 3, 3), nn.LayerNorm(3))
    optimizer = build_optimizer(module, _config(0), OPTIMISATION, gpu=False)
    muon = [parameter for group in optimizer.param_groups if group["muon"] for parameter in group["params"]]
    assert [parameter.ndim for parameter in muon] == [5]


def test_shards_and_flat_buffers_are_refused() -> None:
    module = nn.Linear(2, 2)
    with pytest.raises(ValueError, match="--zero-stage 0 --device cpu, got ZeRO stage 2 on CPUs"):
        build_optimizer(module, _config(2), OPTIMISATION, gpu=False)
    with pytest.raises(ValueError, match="got ZeRO stage 0 on GPUs"):
        build_optimizer(module, _config(0), OPTIMISATION, gpu=True)
