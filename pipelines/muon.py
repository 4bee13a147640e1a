"""Muon: momentum whose direction is made orthogonal, for matrices and kernels; AdamW for everything else.

Jordan et al. 2024, "Muon: an optimizer for hidden layers in neural networks"; the step's size follows Liu et al. 2025
(arXiv 2502.16982), who scale it so that it moves a weight about as far as AdamW does and both share one learning rate.
torch's own Muon takes two-dimensional weights only, DeepSpeed's leaves out kernels with an extent in time and clips its
updates as if they were gradients; most of a VAE's weights are kernels.

Shapes: a kernel [O, I, …] counts as a matrix [O, I·…].
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)
"""Coefficients of Jordan's quintic: steepest at 0, so that five steps bring all singular values near 1."""
NEWTON_SCHULZ_STEPS = 5
ADAMW_RMS = 0.2
"""Root mean square of AdamW's usual update, which the step is scaled to (arXiv 2502.16982, equation 4)."""


def orthogonalise(matrix_OI: Tensor) -> Tensor:
    """About U·Vᵀ of a matrix's U·S·Vᵀ, singular values within 0.7 … 1.2, by Newton and Schulz's iteration."""
    a, b, c = NEWTON_SCHULZ
    wide = matrix_OI.shape[0] <= matrix_OI.shape[1]
    x = matrix_OI if wide else matrix_OI.mT
    x = x / (x.norm() + 1e-7)
    for _ in range(NEWTON_SCHULZ_STEPS):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x if wide else x.mT


class MuonAdamW(torch.optim.AdamW):
    """AdamW, but for the parameter groups that say `muon=True`.

    Args:
        groups: parameter groups; each may have `muon` (False by default) and AdamW's settings. Groups with `muon`
            hold weights of two dimensions or more, whole: ZeRO's shards can't be made orthogonal.
        momentum: decay of Muon's momentum (Nesterov's kind).
        lr, betas, weight_decay: as AdamW's.
    """

    def __init__(
        self,
        groups: Iterable[dict[str, Any]],
        *,
        momentum: float = 0.95,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.98),
        weight_decay: float = 0.01,
    ) -> None:
        groups = [{"muon": False, **group} for group in groups]
        for group in groups:
            if group["muon"] and any(weight.ndim < 2 for weight in group["params"]):
                raise ValueError("a group with muon=True holds a weight of fewer than two dimensions")
        super().__init__(groups, lr=lr, betas=betas, weight_decay=weight_decay)
        self.momentum = momentum

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """One step of all groups."""
        every_group = self.param_groups
        # AdamW's own step goes over whatever groups there are.
        self.param_groups = [group for group in every_group if not group["muon"]]
        try:
            loss = super().step(closure)  # type: ignore[arg-type]
        finally:
            self.param_groups = every_group
        for group in every_group:
            if group["muon"]:
                for weight in group["params"]:
                    self._muon_step(weight, group)
        return loss

    def _muon_step(self, weight: Tensor, group: dict[str, Any]) -> None:
        if weight.grad is None:
            return
        state = self.state[weight]
        if not state:
            state["momentum"] = torch.zeros_like(weight)
            state["step"] = torch.zeros(())  # nothing counts it: AdamW asks every loaded state for one
        state["momentum"].lerp_(weight.grad, 1 - self.momentum)
        direction = weight.grad.lerp(state["momentum"], self.momentum)
        matrix = direction.flatten(1)
        update = orthogonalise(matrix).view_as(direction)
        rate = group["lr"]
        weight.mul_(1 - rate * group["weight_decay"])
        weight.add_(update, alpha=-rate * ADAMW_RMS * max(matrix.shape) ** 0.5)
