"""The teacher-forcing mask against its rule, written out query by query."""

from __future__ import annotations

import torch

from portrait.generator.masks import teacher_forcing_mask, with_absent_keys

CPU = torch.device("cpu")


def test_equals_the_rule_written_out():
    references, blocks, tokens = 3, 3, 2
    kinds = [("window", -1)] + [("reference", -1)] * references
    kinds += [("history", block) for block in range(blocks) for _ in range(tokens)]
    kinds += [("noised", block) for block in range(blocks) for _ in range(tokens)]

    def may_see(query, key, same):
        (query_kind, query_block), (key_kind, key_block) = query, key
        if query_kind == "window":
            return same or key_kind == "reference"
        if query_kind == "reference":
            return key_kind == "reference"
        if key_kind in ("window", "reference"):
            return True
        if query_kind == "history":
            return key_kind == "history" and key_block <= query_block
        return (key_kind == "history" and key_block < query_block) or (
            key_kind == "noised" and key_block == query_block
        )

    expected = torch.tensor(
        [[may_see(q, k, i == j) for j, k in enumerate(kinds)] for i, q in enumerate(kinds)]
    )
    assert torch.equal(teacher_forcing_mask(references, blocks, tokens, CPU), expected)


def test_is_built_once_for_a_shape():
    assert teacher_forcing_mask(4, 2, 4, CPU) is teacher_forcing_mask(4, 2, 4, CPU)


def test_an_absent_token_is_seen_by_itself_only():
    mask = torch.ones(3, 3, dtype=torch.bool)
    seen = with_absent_keys(mask, torch.tensor([[True, False, True]]))[0, 0]
    assert seen.tolist() == [[True, False, True], [True, True, True], [True, False, True]]
