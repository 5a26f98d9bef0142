"""The encoder against independent computations and against itself."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor, nn

from twil.config.model import (
    PRESETS,
    ClassifierConfig,
    EncoderConfig,
    MemoryConfig,
    ModelConfig,
    RopConfig,
    preset,
)
from twil.core.errors import ConfigError, ModelError
from twil.core.task import Task
from twil.model.attention import SelfAttention
from twil.model.heads import pool
from twil.model.memory import ProductKeyMemory
from twil.model.text_model import parameter_count
from twil.model.twilbert import TWilBERT, with_heads

MEMORY = MemoryConfig(layers=(1,), n_heads=2, n_keys=5, key_size=6, knn=3)
SHAPES = {
    "plain": {},
    "factorised": {"embedding_size": 8},
    "shared": {"share_layers": True},
    "wide heads": {"n_heads": 3, "head_size": 10},
    "memory": {"memory": MEMORY},
    "memory factorised": {"memory": MEMORY.model_copy(update={"value_size": 4})},
    "memory normalised": {"memory": MEMORY.model_copy(update={"query_norm": True})},
}


def encoder_config(**changes: object) -> EncoderConfig:
    settings = {
        "vocab_size": 30,
        "hidden_size": 16,
        "n_layers": 3,
        "n_heads": 2,
        "head_size": 8,
        "max_positions": 12,
        "initializer_range": 0.3,
    }
    return EncoderConfig.model_validate(settings | changes)


def batch(rows: int = 4, tokens: int = 9) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(5)
    ids = torch.randint(1, 30, (rows, tokens), generator=generator)
    lengths = torch.randint(2, tokens + 1, (rows, 1), generator=generator)
    lengths[0] = tokens
    mask = (torch.arange(tokens) < lengths).long()
    return ids * mask, mask, (torch.arange(tokens) > lengths // 2).long() * mask


def test_attention_is_that_of_torch_multihead_attention() -> None:
    torch.manual_seed(0)
    config = encoder_config()
    ours = SelfAttention(config)
    theirs = nn.MultiheadAttention(16, 2, bias=False, batch_first=True)
    with torch.no_grad():
        theirs.in_proj_weight.copy_(ours.query_key_value.weight)
        theirs.out_proj.weight.copy_(ours.output.weight)
    hidden, mask = torch.randn(4, 9, 16), batch()[1] != 0
    expected, _ = theirs(hidden, hidden, hidden, key_padding_mask=~mask, need_weights=False)
    torch.testing.assert_close(ours(hidden, mask), expected, atol=1e-6, rtol=0)


def brute_force(memory: ProductKeyMemory, hidden: Tensor) -> Tensor:
    """Score all N² keys of every head, one token at a time."""
    rows = []
    queries = memory.query(hidden).view(-1, memory.n_heads, 2, memory.half_size)
    for token in queries:
        total = torch.zeros(memory.values.shape[1])
        for head, (first, second) in enumerate(token):
            keys = memory.keys[head]
            scores = torch.stack(
                [first @ keys[0, i] + second @ keys[1, j] for i, j in itertools.product(range(5), repeat=2)]
            )
            best, slots = scores.topk(memory.knn)
            total = total + best.softmax(0) @ memory.values[slots]
        rows.append(total)
    return torch.stack(rows).view(*hidden.shape[:2], -1)


def test_memory_finds_what_a_search_over_all_keys_finds() -> None:
    torch.manual_seed(1)
    memory = ProductKeyMemory(MEMORY, hidden_size=16)
    nn.init.normal_(memory.keys)
    nn.init.normal_(memory.values)
    hidden = torch.randn(3, 4, 16)
    visible = torch.ones(3, 4, dtype=torch.bool)
    torch.testing.assert_close(memory(hidden, visible), brute_force(memory, hidden), atol=1e-6, rtol=1e-5)


def test_exported_form_of_the_memory_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(1)
    model = TWilBERT(ModelConfig(encoder=encoder_config(memory=MEMORY))).eval()
    expected = model.encode(*batch())
    monkeypatch.setattr(torch.compiler, "is_exporting", lambda: True)
    torch.testing.assert_close(model.encode(*batch()), expected, atol=1e-6, rtol=1e-5)


def test_query_statistics_leave_pads_out() -> None:
    torch.manual_seed(2)
    config = MEMORY.model_copy(update={"query_norm": True})
    memory = ProductKeyMemory(config, hidden_size=16)
    nn.init.normal_(memory.keys)
    nn.init.normal_(memory.values)
    hidden, mask = torch.randn(4, 9, 16), batch()[1] != 0
    expected = memory(hidden, mask)[mask]
    noisy = hidden.masked_fill(~mask[..., None], 1e3)
    torch.testing.assert_close(memory(noisy, mask)[mask], expected)


@pytest.mark.parametrize("changes", SHAPES.values(), ids=SHAPES)
def test_what_a_row_returns_depends_on_no_pad_and_no_neighbour(changes: dict[str, object]) -> None:
    torch.manual_seed(3)
    model = TWilBERT(ModelConfig(encoder=encoder_config(**changes))).eval()
    ids, mask, segments = batch()
    together = model.encode(ids, mask, segments)
    for row, length in enumerate(mask.sum(1).tolist()):
        alone = model.encode(*(tensor[row : row + 1, :length] for tensor in (ids, mask, segments)))
        torch.testing.assert_close(together[row, :length], alone[0], atol=2e-6, rtol=1e-5)
    scrambled = model.encode(torch.where(mask == 1, ids, 7), mask, segments)
    torch.testing.assert_close(scrambled[mask == 1], together[mask == 1])


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("changes", SHAPES.values(), ids=SHAPES)
def test_the_first_token_alone_has_the_states_and_the_gradients_that_it_has_among_all(
    changes: dict[str, object], training: bool
) -> None:
    torch.manual_seed(3)
    model = TWilBERT(ModelConfig(encoder=encoder_config(**changes))).train(training)
    results = []
    for compute in (model.encoder.first, lambda *inputs: model.encoder(*inputs)[:, :1]):
        model.zero_grad()
        hidden = compute(*batch())
        hidden.square().sum().backward()
        results.append([hidden] + [parameter.grad for parameter in model.encoder.parameters()])
    for alone, among in zip(*results, strict=True):
        torch.testing.assert_close(alone, among, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("pooling", ["cls", "avg", "max", "concat"])
def test_pooling_leaves_pads_out(pooling: str) -> None:
    hidden, mask = torch.randn(4, 9, 16), batch()[1]
    pooled = pool(hidden, mask, pooling)  # type: ignore[arg-type]
    for row, length in enumerate(mask.sum(1).tolist()):
        tokens = hidden[row, :length]
        parts = {"cls": tokens[0], "avg": tokens.mean(0), "max": tokens.amax(0)}
        expected = torch.cat(list(parts.values())) if pooling == "concat" else parts[pooling]
        torch.testing.assert_close(pooled[row], expected)


def closed_form(config: ModelConfig) -> int:
    """Count parameters by hand, from the shape alone."""
    shape = config.encoder
    size = shape.embedding_size or shape.hidden_size
    total = (shape.vocab_size + shape.max_positions + 2) * size
    if shape.embedding_size:
        total += (size + 1) * shape.hidden_size
    attention = 4 * shape.hidden_size * shape.n_heads * shape.head_size
    norms = 4 * shape.hidden_size
    dense = 8 * shape.hidden_size**2 + 5 * shape.hidden_size
    layers = 1 if shape.share_layers else shape.n_layers
    total += layers * (attention + norms + dense)
    if config.mlm:
        total += (shape.hidden_size + 1) * shape.vocab_size
    if config.rop:
        total += 2 * (shape.hidden_size + 1)
    return total


@pytest.mark.parametrize("name", PRESETS)
def test_presets_have_exactly_the_parameters_of_their_shape(name: str) -> None:
    config = ModelConfig(encoder=preset(name, vocab_size=30_002), mlm=True, rop=RopConfig())
    with torch.device("meta"):
        count = parameter_count(TWilBERT(config))
    assert count == closed_form(config)
    if name == "base":  # the original counts a spare row of the token embedding too
        assert count + config.encoder.hidden_size == 81_747_508
    if name == "large":
        assert round(count / 1e6) == 131


def test_factorised_shared_model_has_exactly_the_parameters_of_its_shape() -> None:
    changes = {"embedding_size": 128, "share_layers": True}
    config = ModelConfig(encoder=preset("large", vocab_size=30_002, **changes), mlm=True, rop=RopConfig())
    with torch.device("meta"):
        assert parameter_count(TWilBERT(config)) == closed_form(config)


def test_memory_has_exactly_the_parameters_of_its_shape() -> None:
    memory = ProductKeyMemory(
        MemoryConfig(layers=(0,), n_heads=2, n_keys=5, key_size=6, knn=3, value_size=4), 16
    )
    queries, keys, values, projection = 2 * 6 * (16 + 1), 2 * 2 * 5 * 3, 25 * 4, (4 + 1) * 16
    assert parameter_count(memory) == queries + keys + values + projection


def test_weights_are_drawn_around_zero_within_two_deviations() -> None:
    torch.manual_seed(4)
    model = TWilBERT(ModelConfig(encoder=preset("tiny", vocab_size=5000), mlm=True))
    for weight in (model.encoder.embeddings.token.weight, model.mlm.weight):  # type: ignore[union-attr]
        assert abs(weight.mean().item()) < 2e-4
        assert weight.abs().max().item() <= 0.04
        assert weight.std().item() == pytest.approx(0.0176, abs=5e-4)  # 0.02 cut at two deviations


def test_dropout_acts_in_training_only() -> None:
    torch.manual_seed(5)
    changes = {"input_dropout": 0.5, "output_dropout": 0.5}
    model = TWilBERT(ModelConfig(encoder=encoder_config(**changes)))
    assert not torch.equal(model.encode(*batch()), model.encode(*batch()))
    model.eval()
    assert torch.equal(model.encode(*batch()), model.encode(*batch()))


def test_input_dropout_drops_a_channel_at_every_token_of_its_row() -> None:
    torch.manual_seed(6)
    model = TWilBERT(ModelConfig(encoder=encoder_config(input_dropout=0.5)))
    embedded = model.encoder.embeddings(*batch()[::2])
    dropped = (embedded == 0).any(1)
    assert torch.equal(dropped, (embedded == 0).all(1))
    assert dropped.any()
    assert not dropped.all()


def test_classifier_takes_the_encoder_and_nothing_else() -> None:
    torch.manual_seed(7)
    pretrained = TWilBERT(
        ModelConfig(encoder=encoder_config(), mlm=True, rop=RopConfig(n_hidden=1, hidden_size=8))
    )
    task = Task("class", ("no", "sí"))
    classifier = with_heads(
        pretrained,
        ModelConfig(encoder=encoder_config(), classifier=ClassifierConfig(pooling="concat"), task=task),
    )
    torch.testing.assert_close(classifier.encode(*batch()), pretrained.encode(*batch()))
    assert classifier.eval()(*batch()).shape == (4, 2)
    with pytest.raises(ModelError, match="no masked-language head"):
        classifier.mlm_logits(torch.zeros(1, 1, 16))
    with pytest.raises(ModelError, match="no classifier yet"):
        pretrained(*batch())


def test_a_tied_head_reads_the_token_embeddings_and_teaches_them() -> None:
    torch.manual_seed(8)
    encoder = encoder_config(embedding_size=None)
    model = TWilBERT(ModelConfig(encoder=encoder, mlm=True, tie_word_embeddings=True))
    untied = TWilBERT(ModelConfig(encoder=encoder, mlm=True))
    head = encoder.vocab_size * encoder.hidden_size
    assert parameter_count(untied) - parameter_count(model) == head
    assert model.mlm is not None
    torch.nn.init.normal_(model.mlm.bias)
    table, hidden = model.encoder.embeddings.token.weight, torch.randn(3, encoder.hidden_size)
    logits = model.mlm_logits(hidden)
    torch.testing.assert_close(logits, hidden @ table.T + model.mlm.bias)
    logits[0, 5].backward()
    assert table.grad is not None
    torch.testing.assert_close(table.grad[5], hidden[0])
    assert [name for name in model.state_dict() if name.startswith("mlm")] == ["mlm.bias"]
    again = with_heads(model, model.config)
    torch.testing.assert_close(again.mlm_logits(hidden), logits)


def test_a_head_is_not_tied_to_embeddings_of_another_size() -> None:
    with pytest.raises(ValueError, match=r"embeddings of 8 cannot be the weights of a head on .* of 16"):
        ModelConfig(encoder=encoder_config(embedding_size=8), mlm=True, tie_word_embeddings=True)


def test_configuration_survives_json_and_names_what_is_wrong() -> None:
    config = ModelConfig(
        encoder=encoder_config(memory=MEMORY), classifier=ClassifierConfig(), task=Task("class", ("a", "b"))
    )
    assert ModelConfig.parse(config.as_dict(), source="here") == config
    broken = config.as_dict()
    broken["encoder"]["n_headz"] = 3
    with pytest.raises(ConfigError, match=r"here: encoder\.n_headz"):
        ModelConfig.parse(broken, source="here")
    with pytest.raises(ConfigError, match="tiny, small, base, large"):
        preset("huge", vocab_size=10)
    with pytest.raises(ConfigError, match=r"memory\.layers \[9\]"):
        preset("tiny", vocab_size=10, memory={"layers": (9,)})
    assert set(PRESETS) == {"tiny", "small", "base", "large"}
