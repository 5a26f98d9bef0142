"""Distillation: the teacher is asked once, the student comes near it, and any run can be stopped."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from bundles import HIDDEN, POLARITY, write_bundle
from conftest import write_rows
from hub_models import FAMILIES, make_hub_folder, make_tokens, texts
from processes import run_together
from tokenizers import Tokenizer
from torch import Tensor, nn
from tuning import same_weights, twil_command
from wandb_stand import Stand

import twil
from twil import shipped
from twil.cli.console import Display
from twil.cli.distillation import shown_metric, teacher_bundle
from twil.config.distillation import DistillConfig, ImitationConfig, distill_config
from twil.core.errors import BusyError, ConfigError, DataError, ModelError, ModelWarning, TwilError
from twil.core.machine import peak_memory
from twil.core.storage import sole_writer
from twil.core.task import Task
from twil.data import teacher_store
from twil.data.teacher_store import Taught, TeacherStore
from twil.inference.embedder import Embedder
from twil.inference.engine import OutputBatch
from twil.inference.predictor import Predictor
from twil.model.folder import load_with_tokenizer
from twil.text.adoption import NONE, adopt_tokens, matching_tokens
from twil.text.preparation import find_preparation, put_preparation
from twil.text.special import find_special
from twil.text.tokenizer import SPECIAL, Encoded, check_own, encode
from twil.train.distillation import DistillationStarted, distill_events
from twil.train.loop import Interrupted, StepDone
from twil.train.objectives.imitation import AnswerImitation, TaughtBatch, VectorImitation
from twil.train.objectives.teacher import Asked, Teacher, mean_logits

SHAPE = {"hidden_size": 16, "n_layers": 1, "n_heads": 2, "head_size": 8, "max_positions": 32}
MOODS = Task("multi-label", ("alegría", "enfado", "miedo"))
DEGREE = Task("regression", ("ganas",))


@pytest.fixture(scope="module")
def tweets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_rows(
        tmp_path_factory.mktemp("texts") / "tweets.tsv", [(text, "-") for text in dict.fromkeys(texts())][:90]
    )


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bundle(tmp_path_factory.mktemp("encoder") / "bundle", None)


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bundle(tmp_path_factory.mktemp("classifier") / "bundle")


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("twil.data.teacher_store", "twil.train.objectives.teacher"):
        monkeypatch.setattr(f"{module}.PART_ROWS", 32)


def settings(teacher: Path, texts: Path, *overrides: str, **data: Any) -> DistillConfig:
    options = {
        "data": {"teacher": teacher, "texts": [texts], **data},
        "model": {"encoder": SHAPE},
        "train": {"epochs": 2, "batch_rows": 16, "batch_tokens": 400, "precision": "fp32", "lr": 1e-2},
    }
    return distill_config(None, options, ["model.embeddings=new", *overrides])


def run(config: DistillConfig, output: Path, **more: Any) -> list[Any]:
    return list(distill_events(config, config.data.teacher, output, **more))


def of_kind(events: list[Any], kind: type) -> list[Any]:
    return [event for event in events if isinstance(event, kind)]


def stop_at(kind: type, number: int) -> Callable[[Any], bool]:
    """Tell when an event of a kind has come so often."""
    seen = []

    def reached(event: Any) -> bool:
        seen.extend([event] if isinstance(event, kind) else [])
        return len(seen) >= number

    return reached


def stopped(config: DistillConfig, output: Path, reached: Callable[[Any], bool]) -> list[Any]:
    """Run until an event, then ask the run to stop."""
    events: list[Any] = []
    asked: list[bool] = []
    for event in distill_events(config, config.data.teacher, output, should_stop=lambda: bool(asked)):
        events.append(event)
        if reached(event):
            asked.append(True)
    return events


@pytest.mark.parametrize("family", ["bert", "roberta", "xlm-roberta"])
def test_adopted_tokens_cut_texts_as_before_and_are_a_vocabulary_of_twils_own(family: str) -> None:
    theirs = twil_tokenizer(family)
    every = adopt_tokens(theirs, max_length=40, source=family)
    counts = np.bincount(
        [token for ids in encode(theirs, texts()[:40]).input_ids for token in ids],
        minlength=theirs.get_vocab_size(),
    )
    used = adopt_tokens(theirs, max_length=40, keep=counts > 0, source=family)
    for adopted in (every, used):
        check_own(adopted.tokenizer, Path(family))
        assert len(adopted.origins) == adopted.tokenizer.get_vocab_size()
        matches = matching_tokens(theirs, adopted.tokenizer)
        for text in texts()[:40]:
            before, after = (encode(each, [text]).input_ids[0] for each in (theirs, adopted.tokenizer))
            if len(before) < 40:
                assert matches[before].tolist() == after
                assert adopted.origins[after].tolist() == before
    smaller = used.tokenizer.get_vocab_size() < every.tokenizer.get_vocab_size()
    assert smaller == (family != "roberta"), "merges need each other"


@pytest.mark.parametrize("family", ["bert", "roberta", "xlm-roberta"])
def test_no_text_writes_a_special_token_of_adopted_ones_but_the_mask(family: str) -> None:
    keep = np.zeros(400, dtype=np.bool_)
    adopted = adopt_tokens(twil_tokenizer(family), max_length=40, keep=keep, source=family).tokenizer
    special = [SPECIAL.index(name) for name in ("[PAD]", "[CLS]", "[SEP]")]
    ids = adopted.encode("di [CLS] y [SEP] y [PAD] y <s> y </s>", add_special_tokens=False).ids
    assert not set(special) & set(ids)
    assert SPECIAL.index("[MASK]") in adopted.encode("un [MASK] día").ids


def test_adopted_tokens_read_texts_as_they_were_prepared() -> None:
    theirs = twil_tokenizer("xlm-roberta")
    put_preparation(theirs, "cardiffnlp")
    adopted = adopt_tokens(theirs, max_length=40, source="xlm-roberta").tokenizer
    prepared = find_preparation(adopted, source="")
    assert prepared is not None
    assert prepared.name == "cardiffnlp"
    one, other = encode(adopted, ["hola @ana http://x.example", "hola @user http"]).input_ids
    assert one == other


def test_tokens_of_another_kind_and_words_beside_tokens_are_refused() -> None:
    theirs = twil_tokenizer("bert")
    theirs.add_tokens(["emoticono"])
    with pytest.raises(ConfigError, match=r"words of its own .*emoticono.*--tokenizer"):
        adopt_tokens(theirs, max_length=40, source="bert")


def twil_tokenizer(family: str) -> Any:
    tokenizer = Tokenizer.from_str(make_tokens(family).backend_tokenizer.to_str())  # that one is shared
    tokenizer.enable_truncation(40)
    return tokenizer


def test_a_student_comes_near_the_vectors_of_an_encoder(encoder: Path, tweets: Path, tmp_path: Path) -> None:
    config = settings(encoder, tweets, "train.epochs=15")
    events = run(config, tmp_path / "m")
    started, finished = of_kind(events, DistillationStarted)[0], events[-1]
    assert (started.texts.used, started.dev_rows, started.shared) == (90, 9, 1.0)
    assert finished.metrics["token_cosine"] > 0.9
    assert finished.metrics["vector_cosine"] > 0.8
    model = twil.load(tmp_path / "m")
    assert not hasattr(model, "to_tokens")
    assert model.own_task is None
    record = json.loads((tmp_path / "m" / "run.json").read_text())
    assert (record["command"], record["texts"]["used"]) == ("distill", 90)
    assert not list(tmp_path.glob("m.*")), "neither answers nor checkpoints are left"


def test_tokens_that_both_do_not_read_alike_are_left_out(
    encoder: Path, tweets: Path, tokenizer_file: Path, tmp_path: Path
) -> None:
    config = settings(encoder, tweets, f"model.tokenizer='{tokenizer_file}'", "model.min_uses=1")
    steps = of_kind(run(config, tmp_path / "m"), StepDone)
    assert all(step.counts["shared"] == 0 and "token_cosine" not in step.metrics for step in steps)
    rare = settings(encoder, tweets, "model.min_uses=2")  # some texts lose a token, others do not
    steps = of_kind(run(rare, tmp_path / "r"), StepDone)
    assert 0 < sum(step.counts["shared"] for step in steps) < sum(step.counts["tokens"] for step in steps)


@pytest.mark.parametrize("task", [POLARITY, MOODS, DEGREE], ids=lambda task: task.kind)
def test_a_student_learns_the_answers_of_a_classifier(task: Task, tweets: Path, tmp_path: Path) -> None:
    teacher = write_bundle(tmp_path / "teacher", task)
    events = run(settings(teacher, tweets, "train.epochs=15"), tmp_path / "m")
    losses = [event.loss for event in of_kind(events, StepDone)]
    assert losses[-1] < losses[0] / 3
    model = twil.load(tmp_path / "m")
    assert (model.task, model.pooling) == (task, "avg")
    if task.kind != "regression":
        assert events[-1].metrics["agreement"] > 0.6


class Fixed(nn.Module):
    """A student that gives the same whatever it reads."""

    def __init__(self, given: Tensor) -> None:
        super().__init__()
        self.given = nn.Parameter(given)
        self.architecture = SimpleNamespace(hidden=given.shape[-1])

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        return self.given

    encode = forward


def batch_of(answers: Tensor, tokens: Tensor) -> TaughtBatch:
    ids, nothing = torch.ones(len(answers), 2, dtype=torch.int64), torch.zeros(0, dtype=torch.int64)
    places = torch.arange(len(tokens))
    return TaughtBatch(ids, ids, answers, places, tokens, nothing, torch.zeros(0), torch.ones(()))


@pytest.mark.parametrize("task", [POLARITY, MOODS, DEGREE], ids=lambda task: task.kind)
def test_answers_are_compared_on_the_students_device_and_under_autocast(
    task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: Any, **__: Any) -> Tensor:
        raise RuntimeError("unsafe to autocast")

    monkeypatch.setattr("torch.nn.functional.binary_cross_entropy", refused)  # as CUDA's autocast does
    answers = torch.zeros(3, task.outputs)
    batch = batch_of(answers, torch.zeros(0, 1))
    network = AnswerImitation(Fixed(answers), ImitationConfig(), task, 1.0)  # type: ignore[arg-type]
    for device in map(torch.device, ("cpu", "meta")):  # where nothing is computed, and all must be
        with torch.autocast("cpu", dtype=torch.bfloat16):
            sums = network.to(device)(batch.to(device))
        assert (sums.device, sums.dtype, sums.shape) == (device, torch.float32, (3,))


@pytest.mark.parametrize("task", [POLARITY, MOODS], ids=lambda task: task.kind)
def test_softened_answers_are_compared_by_their_divergence(task: Task) -> None:
    ours, theirs = torch.tensor([[1.0, -2.0, 0.5]]), torch.tensor([[3.0, 0.0, -40.0]])
    network = AnswerImitation(Fixed(ours), ImitationConfig(temperature=2), task, 1.0)  # type: ignore[arg-type]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = network(batch_of(theirs, torch.zeros(0, 1)))[0].item()
    if task.kind == "class":
        p, q = ((logits / 2).double().softmax(-1) for logits in (theirs, ours))
        expected = (p * (p / q).log()).sum()
    else:
        p, q = ((logits / 2).double().sigmoid() for logits in (theirs, ours))
        expected = (p * (p / q).log() + (1 - p) * ((1 - p) / (1 - q)).log()).mean()
    assert found == pytest.approx(4 * expected.item(), rel=1e-5)


def test_how_alike_texts_are_is_compared_in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(1)
    hidden, vectors = (torch.randn(4, 2, 8, generator=generator) for _ in range(2))
    network = VectorImitation(
        Fixed(hidden),  # type: ignore[arg-type]
        ImitationConfig(),
        vectors[:, 0].numpy(),
        vectors.flatten(0, 1).numpy(),
    )
    network.to_vectors.dense = nn.Identity()  # type: ignore[assignment]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = network(batch_of(vectors[:, 0], vectors.flatten(0, 1)))[2].item()
    ours, centred = hidden.mean(1), vectors[:, 0] - vectors[:, 0].mean(0)
    alike = [torch.nn.functional.cosine_similarity(each[:, None], each, dim=-1) for each in (ours, centred)]
    assert found == pytest.approx((alike[0] - alike[1]).square().mean(-1).sum().item(), rel=1e-5)


def test_true_labels_count_beside_the_answers(classifier: Path, tweets: Path, tmp_path: Path) -> None:
    rows = [
        (f"{word} {number}", label)
        for number in range(8)
        for word, label in (("bien", "POS"), ("mal", "NEG"))
    ]
    labelled = write_rows(tmp_path / "train.tsv", [*rows, ("igual", "NEU"), ("igual", "NEU"), ("  ", "NEU")])
    dev = write_rows(tmp_path / "dev.tsv", [("bien hoy", "POS"), ("mal hoy", "NEG"), ("igual hoy", "NEU")])
    config = settings(
        classifier,
        tweets,
        "objective.answers=0",
        "objective.repeat=3",
        "train.epochs=6",
        labelled=labelled,
        dev=dev,
    )
    events: list[Any] = []
    for event in distill_events(config, classifier, tmp_path / "m"):
        if isinstance(event, DistillationStarted):  # what was read counts, whatever becomes of the file
            labelled.unlink()
        events.append(event)
    started = of_kind(events, DistillationStarted)[0]
    assert (started.labelled, started.texts.blank, started.texts.repeated) == (17, 1, 1)
    first = [event for event in of_kind(events, StepDone) if event.epoch == 1]
    assert sum(event.counts["labelled"] for event in first) == 17 * 3
    assert sum(event.counts["rows"] for event in first) == 90 + 17 * 3
    assert started.metric == "macro_f1"
    assert events[-1].metrics["macro_f1"] > 0.5


def test_a_teacher_is_asked_once_for_several_students(classifier: Path, tweets: Path, tmp_path: Path) -> None:
    config, store = settings(classifier, tweets), tmp_path / "answers"
    with sole_writer(store), pytest.raises(BusyError, match="answers"):
        run(config, tmp_path / "one", store=store)
    first = run(config, tmp_path / "one", store=store)
    assert [event.rows for event in of_kind(first, Asked)] == [32, 64, 90]
    test = write_rows(tmp_path / "test.tsv", [("bien ayer", "POS"), ("mal ayer", "NEG")])
    with sole_writer(store):  # a whole one is read alone
        second = run(settings(classifier, tweets, test=test), tmp_path / "two", store=store)
    assert not of_kind(second, Asked)
    assert same_weights(tmp_path / "one", tmp_path / "two")
    smaller = settings(classifier, tweets, limit=40)
    with pytest.raises(ConfigError, match=r"answers .* are others \(texts differ\).*another --store"):
        run(smaller, tmp_path / "three", store=store)


def test_the_store_holds_what_the_teacher_gives(
    encoder: Path, classifier: Path, tweets: Path, tmp_path: Path
) -> None:
    for bundle in (encoder, classifier):
        folder = tmp_path / bundle.parent.name
        run(settings(bundle, tweets), tmp_path / f"m{bundle.parent.name}", store=folder)
        store = TeacherStore(folder, 90)
        taught = store.take([89, 0, 33])
        if bundle is encoder:
            embedder = Embedder(bundle)
            vectors = embedder(taught.texts)
            tokens = [each.vectors for each in embedder.tokens(taught.texts)]
            assert taught.token_vectors is not None
            for stored, fresh in zip(taught.token_vectors, tokens, strict=True):
                np.testing.assert_allclose(stored, fresh, rtol=2e-3, atol=1e-3)
        else:
            vectors = Predictor(bundle).predict_logits(taught.texts)
            assert taught.token_vectors is None
        np.testing.assert_allclose(taught.answers, vectors, rtol=2e-3, atol=1e-3)


def test_a_teacher_that_was_interrupted_goes_on(encoder: Path, tweets: Path, tmp_path: Path) -> None:
    config = settings(encoder, tweets)
    run(config, tmp_path / "whole")
    events = stopped(config, tmp_path / "m", stop_at(Asked, 1))
    assert isinstance(events[-1], Interrupted)
    assert not of_kind(events, StepDone)
    resumed = run(config, tmp_path / "m", resume=True)
    assert [event.rows for event in of_kind(resumed, Asked)] == [64, 90]
    assert same_weights(tmp_path / "whole", tmp_path / "m")


def test_a_training_that_was_interrupted_goes_on_exactly(
    classifier: Path, tweets: Path, tmp_path: Path
) -> None:
    known = write_rows(tmp_path / "known.tsv", [("bien hoy", "POS"), ("mal hoy", "NEG")])
    config = settings(classifier, tweets, "model.output_dropout=0.1", labelled=known)
    run(config, tmp_path / "whole")
    events = stopped(config, tmp_path / "m", stop_at(StepDone, 7))
    assert isinstance(events[-1], Interrupted)
    with pytest.raises(ConfigError, match="--resume"):
        run(config, tmp_path / "m")
    with pytest.raises(ConfigError, match=r"other settings \(objective\.temperature\)"):
        run(
            settings(
                classifier,
                tweets,
                "model.output_dropout=0.1",
                "objective.temperature=3",
                labelled=known,
            ),
            tmp_path / "m",
            resume=True,
        )
    write_rows(known, [("bien hoy", "POS"), ("mal hoy", "NEU")])
    with pytest.raises(ConfigError, match=r"other settings \(the train data\)"):
        run(config, tmp_path / "m", resume=True)
    write_rows(known, [("bien hoy", "POS"), ("mal hoy", "NEG")])
    resumed = run(config, tmp_path / "m", resume=True)
    assert of_kind(resumed, DistillationStarted)[0].resumed == 7
    assert not of_kind(resumed, Asked)
    assert same_weights(tmp_path / "whole", tmp_path / "m")


@pytest.mark.parametrize("name", ["answers.npy", "texts.npy", "part.json"])
def test_answers_that_are_not_as_they_were_written_are_refused(
    name: str, encoder: Path, tweets: Path, tmp_path: Path
) -> None:
    config, store = settings(encoder, tweets), tmp_path / "answers"
    run(config, tmp_path / "m", store=store)
    file = store / "part-000001" / name
    content = file.read_bytes()
    file.write_bytes(content[:-3] + bytes(byte ^ 1 for byte in content[-3:]))
    with pytest.raises(ModelError, match=r"part-000001"):
        run(config, tmp_path / "two", store=store)
    shutil.rmtree(file.parent)
    again = run(config, tmp_path / "two", store=store)
    assert [event.asked for event in of_kind(again, Asked)] == [32]


def test_a_folder_of_other_things_is_no_store(encoder: Path, tweets: Path, tmp_path: Path) -> None:
    for store in (tmp_path / "m", tmp_path / "x" / ".." / "m.checkpoint"):
        with pytest.raises(ConfigError, match="choose another --store"):
            run(settings(encoder, tweets), tmp_path / "m", store=store)
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "verano.jpg").touch()
    with pytest.raises(ConfigError, match="no store"):
        run(settings(encoder, tweets), tmp_path / "m", store=tmp_path / "photos")


def test_a_store_whose_beginning_was_killed_begins_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = TeacherStore(tmp_path / "answers", 1)
    with monkeypatch.context() as patched:
        patched.setattr("twil.core.storage.shutil.rmtree", lambda *_, **__: None)  # nothing is put away
        patched.setattr(teacher_store, "write_json", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            store.begin({"teacher": "a"}, cure="")
    store.begin({"teacher": "a"}, cure="")
    (store.folder / ".part-000000-k1ll3d").mkdir()
    store.begin({"teacher": "a"}, cure="")
    assert [entry.name for entry in store.folder.iterdir()] == ["store.json"]
    with pytest.raises(TwilError, match="nowhere"):
        TeacherStore(tmp_path / "nowhere" / "answers", 1).begin({}, cure="")


@pytest.mark.parametrize("allowed", [None, 300])
def test_a_store_of_many_parts_is_read_with_few_open_files(
    allowed: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    resource = pytest.importorskip("resource")
    monkeypatch.setattr(teacher_store, "PART_ROWS", 1)
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (300, before[1]))
    try:
        if allowed is not None:  # the system allows no more
            monkeypatch.setattr(teacher_store, "allow_open_files", lambda _: allowed)
        store = TeacherStore(tmp_path, 80)
        for part in range(80):
            store.write(
                part, Taught([f"tuit {part}"], [np.array([3])], np.full((1, 2), part, np.float16), None)
            )
        assert store.take(range(80)).answers[:, 0].tolist() == list(range(80))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


@pytest.mark.filterwarnings("error")
def test_vectors_too_large_for_the_store_are_refused_in_a_line(encoder: Path) -> None:
    teacher = Teacher(encoder)
    large = [
        OutputBatch(np.array([0]), np.full(shape, 1e5, np.float32), np.array([False]))
        for shape in ((1, 2), (1, 1, 2))
    ]
    engine = SimpleNamespace(
        encode=lambda _: Encoded([[3]], None, np.array([False])), output_sets=lambda *_: [large]
    )
    with pytest.raises(ModelError, match=r"above 65504, too large for float16"):
        teacher._answer([engine], ["hola"], lambda: False)  # type: ignore[list-item]


def test_answers_twice_as_large_as_memory_are_read_in_place(tmp_path: Path) -> None:
    rows, tokens, width = 32, 2_000_000, 512  # 65 GB that no disk holds: nothing is written into them
    store = TeacherStore(tmp_path, rows)
    part = tmp_path / "part-000000"
    part.mkdir()
    ends = np.arange(1, rows + 1, dtype=np.int64)
    np.save(part / "texts.npy", np.frombuffer(b"x" * rows, np.uint8))
    np.save(part / "text_ends.npy", ends)
    np.save(part / "token_ends.npy", ends * tokens)
    for name, shape, kind in (
        ("token_vectors", (rows * tokens, width), np.float16),
        ("token_ids", (rows * tokens,), np.int32),
        ("answers", (rows, width), np.float16),
    ):
        np.lib.format.open_memmap(part / f"{name}.npy", "w+", kind, shape).flush()
    names = ("texts", "text_ends", "token_ends", "token_vectors", "token_ids", "answers")
    (part / "part.json").write_text(json.dumps({"rows": rows, "sha256": dict.fromkeys(names, "")}))
    before = peak_memory()
    taught = store.take([31, 3])
    assert taught.token_vectors is not None
    assert taught.token_vectors[0].shape == (tokens, width)
    assert taught.token_vectors[1][:5].sum() == 0
    assert peak_memory() - before < 200 * 2**20


def test_texts_that_are_measured_on_are_refused_or_left_out(
    classifier: Path, tweets: Path, tmp_path: Path
) -> None:
    seen = tweets.read_text(encoding="utf-8").splitlines()[5].split("\t")[1]
    dev = write_rows(tmp_path / "dev.tsv", [(f"{seen.upper()}!!", "POS"), ("nada que ver", "NEG")])
    for name in ("dev", "test"):
        with pytest.raises(DataError, match=r"1 of the texts are those of .*dev\.tsv.*--without"):
            run(settings(classifier, tweets, **{name: dev}), tmp_path / "m")
    events = run(settings(classifier, tweets, dev=dev, without=[dev]), tmp_path / "m")
    texts = of_kind(events, DistillationStarted)[0].texts
    assert (texts.used, texts.left_out) == (89, 1)


@pytest.mark.parametrize(
    ("kind", "data", "expected"),
    [
        ("classifier", {"labelled": [("me encanta", "FELIZ")]}, r"'FELIZ' is none of NEG, NEU, POS"),
        ("classifier", {"dev": [("me encanta", "FELIZ")]}, r"'FELIZ' is none of NEG, NEU, POS"),
        ("encoder", {"labelled": [("me encanta", "POS")]}, r"--labelled would have no effect"),
        ("encoder", {"dev": [("me encanta", "POS")]}, r"--dev would have no effect"),
        ("classifier", {"test": [("me encanta", "FELIZ")]}, r"'FELIZ' is none of NEG, NEU, POS"),
    ],
)
def test_labels_that_are_not_the_teachers_are_refused(
    kind: str,
    data: dict[str, Any],
    expected: str,
    encoder: Path,
    classifier: Path,
    tweets: Path,
    tmp_path: Path,
) -> None:
    files = {name: write_rows(tmp_path / f"{name}.tsv", rows) for name, rows in data.items()}
    teacher = encoder if kind == "encoder" else classifier
    with pytest.raises((ConfigError, DataError), match=expected):
        run(settings(teacher, tweets, **files), tmp_path / "m")
    assert not list(tmp_path.glob("m*"))


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (["train.metric=f2"], r"no metric 'f2' .* loss, agreement, or give --dev"),
        (["model.encoder.layers=2"], "n_layers"),
        (["model.folder=somewhere"], "give one student"),
        (["model.encoder.hidden_size=0"], "hidden_size"),
        (["objective.temperature=0"], "temperature"),
    ],
)
def test_settings_that_do_not_fit_are_refused(
    overrides: list[str], expected: str, classifier: Path, tweets: Path, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=expected):
        run(settings(classifier, tweets, *overrides), tmp_path / "m")
    assert not list(tmp_path.iterdir()), "the teacher was asked for nothing"


def test_no_regular_file_holds_the_texts(encoder: Path, tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "nada.tsv"):
        with pytest.raises(DataError, match=path.name):
            run(settings(encoder, path), tmp_path / "m")
    blank = write_rows(tmp_path / "blank.tsv", [("  ", "-")])
    with pytest.raises(DataError, match="no text"):
        run(settings(encoder, blank), tmp_path / "m")


def test_a_pair_or_a_mask_is_no_lesson(tweets: Path, tmp_path: Path) -> None:
    pair = write_bundle(tmp_path / "pair", Task("class", ("NO", "SÍ"), pair=True))
    with pytest.raises(ConfigError, match="pairs"):
        run(settings(pair, tweets), tmp_path / "m")


def test_a_trained_student_keeps_its_tokens_and_learns_slower(
    encoder: Path, classifier: Path, tweets: Path, tmp_path: Path
) -> None:
    run(settings(encoder, tweets), tmp_path / "one")
    options = {
        "data": {"teacher": classifier, "texts": [tweets]},
        "train": {"epochs": 1, "precision": "fp32"},
    }
    config = distill_config(None, options, student=str(tmp_path / "one"))
    started = of_kind(run(config, tmp_path / "two"), DistillationStarted)[0]
    assert started.lr == 2e-4
    assert twil.load(tmp_path / "two").task == POLARITY
    with pytest.raises(ConfigError, match="min_uses has no effect"):
        distill_config(None, options, ["model.min_uses=2"], student=str(tmp_path / "one"))


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_can_be_a_student(
    family: str, encoder: Path, classifier: Path, tweets: Path, tmp_path: Path
) -> None:
    folder = make_hub_folder(tmp_path / "hub", family)
    for teacher, task in ((encoder, None), (classifier, POLARITY)):
        options = {"data": {"teacher": teacher, "texts": [tweets], "limit": 40}, "train": {"steps": 2}}
        output = tmp_path / teacher.parent.name
        list(distill_events(distill_config(None, options, student=str(folder)), teacher, output))
        model = twil.load(output)
        assert model.own_task == task
        assert model.architecture.type == twil.load(folder).architecture.type


@pytest.mark.parametrize("family", ["bert", "roberta", "xlm-roberta"])
def test_a_student_begins_with_its_teachers_embeddings(family: str, tweets: Path, tmp_path: Path) -> None:
    folder = make_hub_folder(tmp_path / "teacher", family)
    options = {
        "data": {"teacher": folder, "texts": [tweets]},
        "model": {"encoder": SHAPE | {"embedding_size": 12}},
        "train": {"steps": 1, "lr": 1e-9, "precision": "fp32"},
    }
    config = distill_config(None, options)
    twil_command("export", folder, "--onnx", "-o", tmp_path / "bundle")
    list(distill_events(config, tmp_path / "bundle", tmp_path / "m"))
    teacher, theirs = load_with_tokenizer(folder)
    student, ours = load_with_tokenizer(tmp_path / "m")
    matches = matching_tokens(ours, theirs)
    known = matches != NONE
    table = teacher.token_embeddings[matches[known]]
    centred = (table - table.mean(0)).detach()
    best = torch.linalg.svd(centred).S[:12].square().sum() / centred.square().sum()
    # What is left of the teacher's distances is what its 12 largest directions hold.
    own = student.token_embeddings[torch.from_numpy(np.flatnonzero(known))].detach()
    fitted = torch.linalg.lstsq(own, centred).solution
    kept = 1 - (own @ fitted - centred).square().sum() / centred.square().sum()
    assert kept.item() == pytest.approx(best.item(), abs=1e-3)


def test_a_bundle_has_no_embeddings_to_begin_with(encoder: Path, tweets: Path, tmp_path: Path) -> None:
    options = {
        "data": {"teacher": encoder, "texts": [tweets]},
        "model": {"encoder": SHAPE},
        "train": {"steps": 1, "precision": "fp32"},
    }
    with pytest.warns(ModelWarning, match="begins with new ones"):
        list(distill_events(distill_config(None, options), encoder, tmp_path / "m"))


def test_the_command_shows_teacher_and_student_beside_each_other(
    classifier: Path, tweets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand = Stand("offline")
    monkeypatch.setitem(sys.modules, "wandb", stand)  # type: ignore[arg-type]
    dev = write_rows(tmp_path / "dev.tsv", [("bien hoy", "POS"), ("mal hoy", "NEG"), ("igual hoy", "NEU")])
    shape = [word for key, value in SHAPE.items() for word in ("--set", f"model.encoder.{key}={value}")]
    test = write_rows(
        tmp_path / "test.tsv", [("bien ayer", "POS"), ("mal ayer", "NEG"), ("igual ayer", "NEU")]
    )
    sets = ["--dev", dev, "--test", test]
    other = write_bundle(tmp_path / "other", seed=1)
    words = [
        "distill",
        classifier,
        tweets,
        "--also",
        other,
        *sets,
        "--epochs",
        1,
        *shape,
        "--track",
        "wandb",
        "-o",
        tmp_path / "m",
    ]
    result = twil_command(*words)
    assert result.exit_code == 0, result.output
    assert "90 different texts; 3 to measure on" in result.output
    table = [line.split() for line in result.output.splitlines()]
    named = [line[0] for line in table if line and line[0] in ("teacher", "teachers", "student")]
    assert named[-4:] == ["teacher", "teacher", "teachers", "student"]
    assert ["dev", "macro-F1", "test", "macro-F1", "precision", "parameters", "MB", "texts/s"] in table
    record = json.loads((tmp_path / "m" / "run.json").read_text())
    assert set(record["results"]) == set(record["data"]) == {"dev", "test"}
    assert {"teacher", "student"} <= {line[0] for line in table if line}
    tracked = {name: value for figures, _ in stand.logged for name, value in figures.items()}
    assert tracked["test/accuracy"] == record["results"]["test"]["metrics"]["accuracy"]
    assert {"train/loss", "train/lr", "dev/macro_f1"} <= set(tracked)
    assert stand.exit_codes == [0]
    again = twil_command(*words)
    assert (again.exit_code, again.output.count("\n")) == (1, 1)
    assert "exists" in again.output or "taken" in again.output or "--force" in again.output


@pytest.mark.timeout(180)
def test_two_processes_teach_what_one_does(encoder: Path, tweets: Path, tmp_path: Path) -> None:
    shape = [word for key, value in SHAPE.items() for word in ("--set", f"model.encoder.{key}={value}")]
    # How alike texts are is compared within a micro-batch, and those of two processes are others.
    sets = ("train.batch_rows=15", "model.embeddings=new", "objective.relations=0", "optimiser.name=sgd")
    more = ["--precision", "fp32", *(word for each in sets for word in ("--set", each))]
    words = [encoder, tweets, "--epochs", 1, *shape, *more, "--quiet", "-o"]
    run_together(2, "distill", *map(str, [*words, tmp_path / "two"]))
    assert twil_command("distill", *words, tmp_path / "one").exit_code == 0
    one, two = (twil.load(tmp_path / name).state_dict() for name in ("one", "two"))
    for name, weight in one.items():
        torch.testing.assert_close(two[name], weight, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("metric", "sets", "expected"),
    [
        ("agreement", ["test"], "macro_f1"),
        ("auto", ["dev"], "macro_f1"),
        ("loss", ["dev"], "macro_f1"),
        ("accuracy", ["dev", "test"], "accuracy"),
    ],
)
def test_the_score_that_is_shown_is_one_of_labelled_texts(
    metric: str, sets: list[str], expected: str, classifier: Path, tweets: Path
) -> None:
    config = settings(classifier, tweets, f"train.metric={metric}", **dict.fromkeys(sets, tweets))
    assert shown_metric(config, POLARITY) == expected


@pytest.mark.parametrize("task", [None, DEGREE], ids=["vectors", "numbers"])
def test_a_single_text_can_be_learned(task: Task | None, tmp_path: Path) -> None:
    (tmp_path / "one.txt").write_text("qué tarde tan larga\n", encoding="utf-8")
    teacher = write_bundle(tmp_path / "teacher", task)
    events = run(settings(teacher, tmp_path / "one.txt"), tmp_path / "m")
    assert 0 < of_kind(events, StepDone)[-1].loss < 100


def test_a_bundle_says_what_it_is_and_nothing_else(classifier: Path, tweets: Path, tmp_path: Path) -> None:
    result = twil_command("distill", classifier, tweets, "--head", "encoder", "-o", tmp_path / "m")
    assert result.exit_code == 1
    assert "kind classifier" in result.output


def test_texts_are_prepared_for_a_teacher_of_the_library_and_its_student(
    encoder: Path, tweets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TWIL_CACHE", str(tmp_path / "cache"))
    teacher = make_hub_folder(tmp_path / "teacher", "bert")
    options = {"data": {"teacher": teacher, "texts": [tweets]}, "model": {"encoder": SHAPE}}
    config = distill_config(None, options, ["data.preparation=cardiffnlp", "train.steps=1"])
    with Display(quiet=True) as display:
        bundle = teacher_bundle(teacher, "encoder", display, config.data.preparation)
        with pytest.raises(ConfigError, match=r"leave data.preparation out"):
            teacher_bundle(encoder, None, display, "cardiffnlp")
        monkeypatch.setattr(shipped, "FOLDER", encoder.parent)
        with pytest.raises(ConfigError, match=r"leave data.preparation out"):
            teacher_bundle(Path(encoder.name), None, display, "cardiffnlp")
    list(distill_events(config, bundle, tmp_path / "m"))
    student = find_preparation(load_with_tokenizer(tmp_path / "m")[1], source="")
    assert student is not None
    assert student.name == "cardiffnlp"


@pytest.mark.parametrize("kind", ["class", "multi-label", "regression"])
def test_what_several_teachers_say_is_the_mean_of_their_probabilities(kind: Any) -> None:
    task = Task(kind, ("a", "b", "c") if kind != "regression" else ("a",))
    turned = Task(kind, task.labels[::-1])
    one, two = np.random.default_rng(1).normal(0, 30, (2, 5, task.outputs)).astype(np.float32)
    logits = mean_logits(task, [task, turned], [one, two[:, ::-1]])
    mean = (task.probabilities(one) + task.probabilities(two)) / 2
    np.testing.assert_allclose(task.probabilities(logits), mean, atol=1e-6)
    assert np.isfinite(logits).all()
    assert mean_logits(task, [turned], [one]) is one


def test_classifiers_of_the_same_labels_teach_together(tweets: Path, tmp_path: Path) -> None:
    turned = Task("class", POLARITY.labels[::-1])
    paths = [
        write_bundle(tmp_path / "first"),
        write_bundle(tmp_path / "second", turned, seed=1),
        write_bundle(tmp_path / "third", seed=2),
    ]
    config = settings(paths[0], tweets, "train.steps=1", also=paths[1:])
    list(distill_events(config, paths[0], tmp_path / "m", also=paths[1:], store=tmp_path / "store"))
    record = json.loads((tmp_path / "m" / "run.json").read_text())
    assert record["teacher"]["also"] == list(map(str, paths[1:]))
    assert record["teacher"]["sha256"] != Teacher(paths[0]).sha256
    taught = TeacherStore(tmp_path / "store", 90).take([0, 89])
    said = []
    for path in paths:
        with Predictor(path) as predictor:
            labels = [predictor.task.labels.index(label) for label in POLARITY.labels]
            said.append(predictor.task.probabilities(predictor.predict_logits(taught.texts))[:, labels])
    np.testing.assert_allclose(POLARITY.probabilities(taught.answers), np.mean(said, axis=0), atol=1e-5)


def test_teachers_of_other_labels_or_of_vectors_cannot_teach_together(
    encoder: Path, classifier: Path, tmp_path: Path
) -> None:
    other = write_bundle(tmp_path / "other", Task("class", ("sí", "no")))
    for first, second in ((classifier, other), (classifier, encoder), (encoder, encoder)):
        with pytest.raises(ConfigError, match="no classifiers of the same labels"):
            Teacher(first, [second])


def test_special_tokens_match_by_what_they_do() -> None:
    theirs, ours = twil_tokenizer("xlm-roberta"), twil_tokenizer("bert")
    matches = matching_tokens(theirs, ours)
    one, other = (find_special(each, source="") for each in (theirs, ours))
    assert [matches[getattr(one, role)] for role in ("pad", "cls", "sep", "mask", "unknown")] == [
        getattr(other, role) for role in ("pad", "cls", "sep", "mask", "unknown")
    ]


def test_a_part_comes_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = TeacherStore(tmp_path, 1)
    taught = Taught(["hola"], [np.array([3, 4])], np.zeros((1, HIDDEN), np.float16), None)
    monkeypatch.setattr(
        teacher_store, "write_json", lambda *_: (_ for _ in ()).throw(OSError("the disk is full"))
    )
    with pytest.raises(OSError, match="full"):
        store.write(0, taught)
    assert store.missing() == [0]
    assert not list(tmp_path.iterdir())
