"""The benchmark counts the memory that is there, and its table says what was measured."""

from __future__ import annotations

import pytest
import torch

from pipelines.benchmark import Case, Cost, cost_of, markdown


def test_the_peak_is_what_was_allocated_in_between() -> None:
    def run() -> torch.Tensor:
        large = torch.ones(256, 2**20 // 4)  # 256 MiB, given back before the function ends
        return large[0].clone()

    seconds, mib = cost_of(run, torch.device("cpu"), repeats=2)
    assert mib == pytest.approx(256, rel=0.05)
    assert seconds > 0


def test_a_row_says_what_was_measured() -> None:
    case = Case(preset="tiny", size=128, num_frames=17, references=2, streamed=True, device="cpu", repeats=1)
    cost = Cost(case=case, encode_s=0.5, decode_s=0.34, encode_mib=10.4, decode_mib=20.6)
    text = markdown([cost], "an abacus")
    assert "| 128² | 17 | 2 | blocks | 0.500 | 10 | 0.340 | 21 | 50.0 |" in text
    assert "an abacus" in text
