"""Packed rows are computed as padded ones are."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.utils.rnn import pad_sequence

from twil.config.model import EncoderConfig, MemoryConfig, ModelConfig
from twil.model import packing
from twil.model.packing import Packing, _has_kernel
from twil.model.twilbert import TWilBERT

LENGTHS = [[5], [6, 6, 6], [9, 7, 7, 4, 3, 3, 1], [2, 8, 2]]
MEMORY = MemoryConfig(layers=(1,), n_heads=2, n_keys=6, key_size=8, knn=3)


def make(**shape: Any) -> TWilBERT:
    torch.manual_seed(0)
    encoder = EncoderConfig(
        vocab_size=50, hidden_size=16, n_layers=2, n_heads=2, head_size=6, max_positions=16, **shape
    )
    return TWilBERT(ModelConfig(encoder=encoder, mlm=True)).double()


ANY = make(memory=MEMORY).eval()


def rows_of(lengths: list[int]) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(5, 50, (sum(lengths),), generator=generator)
    return ids, torch.randint(0, 2, ids.shape, generator=generator)


def padded(model: TWilBERT, ids: Tensor, segments: Tensor, lengths: list[int]) -> Tensor:
    rows, parts = (pad_sequence(list(x.split(lengths)), batch_first=True) for x in (ids, segments))
    mask = pad_sequence([torch.ones(length).long() for length in lengths], batch_first=True)
    return model.encode(rows, mask, parts)[mask.bool()]


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(1, 16), min_size=1, max_size=9))
def test_rows_of_any_lengths_are_encoded_as_padded_ones(lengths: list[int]) -> None:
    ids, segments = rows_of(lengths)
    with torch.inference_mode():
        packed = ANY.encode_packed(ids, segments, Packing.of(lengths))
        torch.testing.assert_close(packed, padded(ANY, ids, segments, lengths), atol=1e-10, rtol=1e-8)


@pytest.mark.parametrize("lengths", LENGTHS, ids=str)
@pytest.mark.parametrize(
    "shape",
    [
        {},
        {"embedding_size": 4, "share_layers": True},
        {"memory": MEMORY},
        {"memory": MEMORY.model_copy(update={"query_norm": True})},
    ],
    ids=["plain", "factorised-shared", "memory", "memory-norm"],
)
def test_hidden_states_and_gradients_are_those_of_padded_rows(
    lengths: list[int], shape: dict[str, Any]
) -> None:
    model = make(**shape)
    ids, segments = rows_of(lengths)
    outputs = []
    for way in ("packed", "padded"):
        model.zero_grad()
        torch.manual_seed(2)
        model.load_state_dict(make(**shape).state_dict())  # running statistics too
        model.train()
        if way == "packed":
            hidden = model.encode_packed(ids, segments, Packing.of(lengths))
        else:
            hidden = padded(model, ids, segments, lengths)
        (hidden * torch.arange(hidden.numel()).view_as(hidden)).sum().backward()
        gradients = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
        outputs.append((hidden.detach(), gradients, dict(model.named_buffers())))
        outputs[-1] = (outputs[-1][0], outputs[-1][1], {k: v.clone() for k, v in outputs[-1][2].items()})
    (one, left, buffers), (other, right, others) = outputs
    torch.testing.assert_close(one, other, atol=1e-10, rtol=1e-8)
    assert left.keys() == right.keys()
    for name, gradient in left.items():
        torch.testing.assert_close(gradient, right[name], atol=1e-7, rtol=1e-7, msg=name)
    for name, buffer in buffers.items():
        torch.testing.assert_close(buffer, others[name], msg=name)


def test_rows_that_fill_a_batch_up_change_nothing() -> None:
    model = make(memory=MEMORY.model_copy(update={"query_norm": True})).train()
    ids, segments = rows_of([4, 3])
    plain = model.encode_packed(ids, segments, Packing.of([4, 3]))
    means = model.get_buffer("encoder.blocks.1.memory.query_norm.running_mean").clone()
    model = make(memory=MEMORY.model_copy(update={"query_norm": True})).train()
    fill = torch.zeros(5, dtype=torch.int64)
    mask = torch.cat([torch.ones(7).long(), fill])
    filled = model.encode_packed(
        torch.cat([ids, fill]), torch.cat([segments, fill]), Packing.of([4, 3, 4, 1]), mask
    )
    torch.testing.assert_close(filled[:7], plain)
    torch.testing.assert_close(model.get_buffer("encoder.blocks.1.memory.query_norm.running_mean"), means)


def test_rows_do_not_see_each_other() -> None:
    model = make().eval()
    lengths = [5, 5, 4]
    ids, segments = rows_of(lengths)
    before = model.encode_packed(ids, segments, Packing.of(lengths))
    ids = ids.clone()
    ids[5:10] = (ids[5:10] - 5 + 7) % 45 + 5
    after = model.encode_packed(ids, segments, Packing.of(lengths))
    torch.testing.assert_close(before[:5], after[:5], atol=0, rtol=0)
    torch.testing.assert_close(before[10:], after[10:], atol=0, rtol=0)
    assert not torch.allclose(before[5:10], after[5:10])


def test_input_dropout_drops_a_channel_at_every_token_of_a_row() -> None:
    model = make(input_dropout=0.5).train()
    lengths = [6, 6, 3]
    ids, segments = rows_of(lengths)
    torch.manual_seed(0)
    embedded = model.encoder.embeddings(ids[None], segments[None], Packing.of(lengths))[0]
    plain = model.eval().encoder.embeddings(ids[None], segments[None], Packing.of(lengths))[0]
    dropped = [(row == 0).all(dim=0) for row in embedded.split(lengths)]
    for channels, row, whole in zip(dropped, embedded.split(lengths), plain.split(lengths), strict=True):
        assert 0 < channels.sum() < 16
        torch.testing.assert_close(row[:, ~channels], 2 * whole[:, ~channels])
    assert not torch.equal(dropped[0], dropped[1])


def test_packing_knows_where_rows_lie() -> None:
    rows = Packing.of([3, 1, 2])
    assert rows.offsets.tolist() == [0, 3, 4, 6]
    assert rows.positions.tolist() == [0, 1, 2, 0, 0, 1]
    assert rows.rows.tolist() == [0, 0, 0, 1, 2, 2]
    assert rows.longest == 3


@pytest.mark.parametrize(
    ("taken", "dtype", "head_size", "capability"),
    [
        (True, torch.bfloat16, 64, (9, 0)),
        (True, torch.float16, 256, (8, 0)),
        (False, torch.float16, 64, (7, 5)),  # the kernel needs Ampere
        (False, torch.bfloat16, 12, (9, 0)),
        (False, torch.bfloat16, 264, (9, 0)),
        (False, torch.float32, 64, (9, 0)),
        (False, torch.float64, 64, (9, 0)),
    ],
)
def test_what_the_kernel_of_packed_rows_cannot_take_goes_another_way(
    monkeypatch: pytest.MonkeyPatch,
    taken: bool,
    dtype: torch.dtype,
    head_size: int,
    capability: tuple[int, int],
) -> None:
    monkeypatch.setattr(packing, "_HAS_VARLEN", True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    with FakeTensorMode():  # no device is needed
        mixed = torch.empty(5, 3, 2, head_size, dtype=dtype, device="cuda")
    assert _has_kernel(mixed) == taken
    monkeypatch.setattr(packing, "_HAS_VARLEN", False)  # a torch before the kernel
    assert not _has_kernel(mixed)


def test_the_kernel_of_packed_rows_is_none_of_the_cpus() -> None:
    assert not _has_kernel(torch.empty(5, 3, 2, 64, dtype=torch.bfloat16))
