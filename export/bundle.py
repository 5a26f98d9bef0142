"""From a model folder to a bundle: the graph, its tokenizer, and a manifest that says how it was checked."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from tokenizers import Tokenizer

from twil.bundle.bundle import GRAPH, MANIFEST, OUTPUTS, TOKENIZER, Bundle, Kind, Manifest, open_bundle
from twil.config.model import Pooling
from twil.core.errors import ConfigError, require
from twil.core.storage import atomic_folder, reserved_folder, sha256
from twil.core.task import NO_NAMES
from twil.exporting.card import CARD, write_card
from twil.exporting.graph.first_alone import first_alone
from twil.exporting.graph.heads import choose_head, choose_pooling, make_graph
from twil.exporting.graph.hub_fusion import fuse_hub, hub_fusions
from twil.exporting.graph.optimise import INTEGER_PRODUCT, count_operators, fuse, fusions
from twil.exporting.graph.write import OPSET, WEIGHTS, write_graph
from twil.exporting.int8.options import Int8Data, Int8Options, read_data
from twil.exporting.int8.search import make_int8, read_verdict
from twil.exporting.reduced import check_fp16, check_int8, write_fp16
from twil.exporting.text_graph.build import TEXT_GRAPH, TextFront, check_texts
from twil.exporting.text_graph.check import check_text_graph
from twil.exporting.verify import check_neighbours, verify
from twil.model import folder as model_folders
from twil.model.hub.model import HubModel
from twil.model.hub.sentence import SentenceVectors
from twil.model.twilbert import TWilBERT
from twil.text.preparation import find_preparation
from twil.text.special import find_special
from twil.text.tokenizer import max_length, save_tokenizer, set_max_length

FILES = (GRAPH, WEIGHTS, TEXT_GRAPH, TOKENIZER, MANIFEST, CARD)
"""What a bundle may hold."""
WHOLE_LAYER = (
    "the last layer is computed for whole rows: it could not be cut down to their first token, which most "
    "classifiers read alone"
)


@dataclass(frozen=True)
class ExportReport:
    """What an export wrote.

    Attributes:
        folder: The bundle.
        manifest: What `bundle.json` says, the parity report included.
        size: Bytes of all its files.
        seconds: What writing and checking took.
        unfused: What should have become one operator and did not, in sentences.
        texts_read: How many texts the graph that takes texts was tried on; 0 where there is none.
    """

    folder: Path
    manifest: Manifest
    size: int
    seconds: float
    unfused: tuple[str, ...] = ()
    texts_read: int = 0

    def describe_int8(self) -> str:
        """Say in one line what became of labels or vectors in int8; of a bundle in int8."""
        report = self.manifest.int8
        integer = report["products"] - len(report["left_in_fp32"])
        by_token = f", in {len(report['by_token'])} by token" if report["by_token"] else ""
        return (
            f"int8 in {integer} of {report['products']} products{by_token}: "
            f"{read_verdict(report).describe()}; {report['speedup']:.1f} times as fast here"
        )

    def describe_fp16(self) -> str:
        """Say in one line how far half precision is from the float graph; of a bundle in fp16."""
        report = self.manifest.fp16
        difference = max(report["difference"].values())
        return (
            f"fp16, for GPUs: differs from fp32 by at most {difference:.2%} of the largest value, "
            f"on {report['rows']} rows"
        )

    def describe_text_in(self) -> str:
        """Say in one line how the graph that takes texts was checked; of a bundle that has one."""
        return f"{TEXT_GRAPH} takes texts: it cuts {self.texts_read:,} texts as {TOKENIZER} does"

    def describe(self) -> str:
        """Say in one line what was written and how far it (the float graph, of int8) is from the model."""
        task, parity = self.manifest.task, self.manifest.parity
        pooling = f", {self.manifest.pooling} pooling" if self.manifest.pooling else ""
        what = f"{task.kind} of {', '.join(task.labels)}" if task else f"{self.manifest.kind}{pooling}"
        difference = max(parity["max_difference"].values())
        tied = (
            f" ({parity['tied_rows']} more tied in a memory and were drawn again)"
            if parity["tied_rows"]
            else ""
        )
        return (
            f"{self.folder} ({what}; rows of up to {self.manifest.max_length} tokens; "
            f"{self.size / 1e6:.1f} MB): differs from the model by at most {difference:.1g} on "
            f"{parity['rows']} rows at {len(parity['shapes'])} shapes{tied}; "
            f"{self.seconds:.1f} s"
        )


def unheard(said: str) -> None:
    """Say nothing."""


def export_onnx(
    model_folder: str | Path,
    bundle_folder: str | Path,
    *,
    head: Kind | None = None,
    map_labels: Mapping[str, str] = NO_NAMES,
    pooling: Pooling | None = None,
    optimize: bool = False,
    fp16: bool = False,
    int8: Int8Options | None = None,
    text_in: bool = False,
    preparation: str | None = None,
    opset: int = OPSET,
    overwrite: bool = False,
    say: Callable[[str], None] = unheard,
) -> ExportReport:
    """Write a bundle from a model folder, checked against the model, whole or not at all.

    A classifier's graph gives logits and probabilities; a bare encoder's, token vectors and their pool; one
    that fills masks, logits over the vocabulary. An int8 graph is made of the float graph once that one is
    checked, and is held to it on labelled texts.

    Args:
        model_folder: The model.
        bundle_folder: The bundle to write.
        head: What to export of the model; when left out, the classifier where there is one, else the
            encoder.
        map_labels: What labels of a classifier are to be called.
        pooling: Of an encoder; its classifier's, what its folder says, or `ENCODER_POOLING`, when left out.
            A classifier has its own.
        optimize: Put operators of ONNX Runtime into the graph, which other runtimes do not have.
        fp16: Compute in half precision, for GPUs: a CPU is slower in it.
        int8: Compute matrix products in 8 bits, as far as labels or vectors bear it; in fp32 when left out.
        text_in: Also write a graph that takes texts, with operators of onnxruntime-extensions.
        preparation: How texts are prepared for a model whose folder does not record it, see
            `twil.text.preparation`.
        opset: The ONNX operator set.
        overwrite: Replace a bundle that is there.
        say: Told in a line what is being done, since int8 may take a minute.

    Raises:
        ModelError: `model_folder` is no model folder, or lacks the head.
        ConfigError: `head`, `map_labels`, `pooling`, `opset`, `fp16`, `int8`, `text_in` or `preparation` does
            not fit.
        DataError: A file that `int8` names cannot be used.
        ExportError: The graph cannot be written, does not compute what the model does, or does not do so in
            half precision, or does not keep its labels or vectors in int8; or the one that takes texts does
            not cut them as the tokenizer does.
        MissingExtraError: onnx, ONNX Runtime or, for `text_in`, onnxruntime-extensions is not installed.
        TwilError: `bundle_folder` is taken, or another process writes it.
    """
    if fp16 and int8:
        raise ConfigError("a graph is in half precision or in 8 bits: choose one")
    started = time.perf_counter()
    target = Path(bundle_folder)
    require("onnx", purpose="export")
    require("onnxruntime", purpose="checking an export")
    with (
        reserved_folder(target, overwrite=overwrite, own=FILES),
        atomic_folder(target, overwrite=overwrite, own=FILES) as temporary,
    ):
        described = model_folders.describe(model_folder, preparation)
        source = described.folder
        model, tokenizer = model_folders.load_described(described)
        head = choose_head(model, head)
        if map_labels:
            if head != "classifier":
                raise ConfigError(
                    "--map-labels would have no effect: only with a classifier, which has labels"
                )
            model.set_task(model.task.renamed(map_labels))
        vectors = choose_pooling(model, head, pooling)
        task = model.own_task if head == "classifier" else None
        if text_in:
            require("onnxruntime_extensions", purpose="--text-in")
            check_texts(model, task)
        data, run = read_data(int8, head, task) if int8 else None, model_folders.read_run(source)
        # Held to the model as it was read: a fused one could be wrong in the same way as its graph.
        reference = make_graph(model, vectors, head).eval()
        expected: Mapping[str, int] = {}
        written, whole_layer = model, False
        if optimize:
            if isinstance(model, TWilBERT):
                expected, written = fusions(model), fuse(model)
            elif isinstance(model, HubModel):
                expected, written = hub_fusions(model), fuse_hub(model)
                if head == "classifier" and model.pooling in (None, "cls"):
                    trimmed = first_alone(written)
                    whole_layer = trimmed is None
                    written = trimmed or written
        prepared = find_preparation(tokenizer, source=str(source))
        longest = _write_tokenizer(described, tokenizer, temporary, model.max_positions)
        module = make_graph(written, vectors, head)
        write_graph(module, temporary / GRAPH, outputs=OUTPUTS[head], max_length=longest, opset=opset)
        if isinstance(model, HubModel):
            check_neighbours(reference, OUTPUTS[head])
        manifest = Manifest(
            kind=head,
            max_length=longest,
            pad_id=find_special(tokenizer, source=str(source)).pad,
            precision="fp32",
            pooling=vectors.name if isinstance(vectors, SentenceVectors) else vectors or "",
            task=task,
            files={file.name: sha256(file) for file in sorted(temporary.iterdir())},
            versions=_versions(),
            opset=opset,
            optimized=optimize,
            preparation=prepared.record if prepared else {},
        )
        bundle = Bundle(
            temporary, replace(manifest, parity=verify(Bundle(temporary, manifest), reference).as_dict())
        )
        if data:
            bundle = _to_int8(bundle, data, model.vocab_size, say)
        if fp16:
            bundle = _to_fp16(bundle, model.vocab_size)
        texts_read = 0
        if text_in:
            bundle, texts_read = _add_text_graph(bundle, data)
        manifest = replace(bundle.manifest, operators=count_operators(bundle.graph))
        manifest.write(temporary)
        # The card is no part of what the manifest signs: its owner may add to it.
        write_card(temporary, target.name, manifest, model.facts, run)
        manifest = open_bundle(temporary).manifest  # as a reader will see it
        size = sum(file.stat().st_size for file in temporary.iterdir())
    unfused = tuple(_unfused(manifest, expected)) + ((WHOLE_LAYER,) if whole_layer else ())
    return ExportReport(target, manifest, size, time.perf_counter() - started, unfused, texts_read)


def _unfused(manifest: Manifest, expected: Mapping[str, int]) -> Iterator[str]:
    """Say which operators ONNX Runtime made fewer of than it should have."""
    if manifest.int8:
        integer = manifest.int8["products"] - len(manifest.int8["left_in_fp32"])
        expected = {**expected, INTEGER_PRODUCT: integer}
    for operator, count in expected.items():
        found = manifest.operators.get(operator, 0)
        if found != count:
            yield f"ONNX Runtime made {found} {operator} of the graph, and {count} were meant: it may be slow"


def _to_int8(bundle: Bundle, data: Int8Data, vocab_size: int, say: Callable[[str], None]) -> Bundle:
    """Put an int8 graph in the place of a bundle's float graph."""
    _check_one_file(bundle)
    with TemporaryDirectory(dir=bundle.folder) as folder:
        written = Path(folder) / GRAPH
        report = make_int8(bundle, data, written, say)
        written.replace(bundle.graph)
    files = bundle.manifest.files | {GRAPH: sha256(bundle.graph)}
    done = Bundle(bundle.folder, replace(bundle.manifest, precision="int8", int8=report, files=files))
    check_int8(done, vocab_size=vocab_size)
    return done


def _to_fp16(bundle: Bundle, vocab_size: int) -> Bundle:
    """Put a graph in half precision in the place of a bundle's float graph."""
    _check_one_file(bundle)
    with TemporaryDirectory(dir=bundle.folder) as folder:
        whole = Path(folder) / "whole"
        whole.mkdir()
        bundle.graph.replace(whole / GRAPH)
        shutil.copyfile(bundle.tokenizer, whole / TOKENIZER)
        write_fp16(whole / GRAPH, bundle.graph)
        files = bundle.manifest.files | {GRAPH: sha256(bundle.graph)}
        done = Bundle(bundle.folder, replace(bundle.manifest, precision="fp16", files=files))
        report = check_fp16(done, Bundle(whole, bundle.manifest), vocab_size=vocab_size)
    return Bundle(done.folder, replace(done.manifest, fp16=report))


def _check_one_file(bundle: Bundle) -> None:
    if WEIGHTS in bundle.manifest.files:
        raise ConfigError("a model of more than 2 GB is exported in fp32 alone: leave --precision out")


def _add_text_graph(bundle: Bundle, data: Int8Data | None) -> tuple[Bundle, int]:
    """Put a graph that takes texts beside the bundle's, and count the texts that it was checked on."""
    path, front = bundle.folder / TEXT_GRAPH, TextFront(bundle)
    front.join(bundle.graph, path)
    items = (*data.calibration, *data.guard.items) if data else ()
    texts = [item for item in items if isinstance(item, str)]
    tried = check_text_graph(bundle, path, front, texts)
    files = bundle.manifest.files | {TEXT_GRAPH: sha256(path)}
    extensions = require("onnxruntime_extensions", purpose="--text-in")
    versions = bundle.manifest.versions | {"onnxruntime-extensions": str(extensions.__version__)}
    return Bundle(bundle.folder, replace(bundle.manifest, files=files, versions=versions)), tried


def _write_tokenizer(
    described: model_folders.Description, tokenizer: Tokenizer, target: Path, positions: int
) -> int:
    """Write the tokenizer, truncating at what the encoder takes, and return that length."""
    cut = max_length(tokenizer)
    if described.written_here and cut is not None and cut <= positions:
        shutil.copyfile(described.folder / TOKENIZER, target / TOKENIZER)
        return cut
    longest = min(cut or positions, positions)
    set_max_length(tokenizer, longest)
    save_tokenizer(tokenizer, target / TOKENIZER)
    return longest


def _versions() -> dict[str, str]:
    exporters = {name: str(require(name, purpose="export").__version__) for name in ("onnx", "onnxruntime")}
    return model_folders.versions() | exporters
