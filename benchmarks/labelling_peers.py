"""The ways to label texts that `predict.py` compares; run by it, in the environment that each needs.

    python labelling_peers.py make WAY MODEL TARGET [TEXTS]    convert a model folder of twil for a way
    python labelling_peers.py serve WAY MODEL                  wait for texts, label them, tell the time
    python labelling_peers.py file WAY MODEL IN.tsv OUT.tsv    label a file, as a script of its user would

Nothing of twil is imported but by the ways that are twil, since the others live where it is not installed.
What is built of a model folder computes the same: BERT of transformers with the layer norm behind the
embeddings and the pooler left out, which TWilBERT does not have, and with its GELU. A folder of transformers
is loaded as it is.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import numpy as np

MAX_LENGTH = 128
FILE_BATCH = 32
"""Rows of a batch in file order, as the usual tools take them."""
SORTED_TOKENS = 512
"""Tokens of a batch of texts sorted by length, for peers whose users would sort."""
THREADS = len(os.sched_getaffinity(0))
INPUTS = ("input_ids", "attention_mask", "token_type_ids")
TWIL_INPUTS = ("input_ids", "attention_mask", "segment_ids")
CALIBRATION_ROWS = 512

Label = Callable[[Sequence[str]], list[str]]


def read_labels(model: Path) -> list[str]:
    config = json.loads((model / "config.json").read_text(encoding="utf-8"))
    if "model" not in config:
        return [config["id2label"][number] for number in sorted(config["id2label"], key=int)]
    return list(config["model"]["task"]["labels"])


def is_library_s(model: Path) -> bool:
    """Tell whether a folder is one of transformers, and not of TWilBERT."""
    return "model" not in json.loads((model / "config.json").read_text(encoding="utf-8"))


def build_bert(folder: Path, **options: Any) -> Any:
    """Make BERT of transformers with the weights of a model folder; `options` go into its configuration."""
    import torch
    from safetensors.torch import load_file
    from transformers import BertConfig, BertForSequenceClassification

    if is_library_s(folder):
        return BertForSequenceClassification.from_pretrained(folder, **options).eval()

    class First(torch.nn.Module):
        def forward(self, hidden: Any) -> Any:
            return hidden[:, 0]

    labels = read_labels(folder)
    shape = json.loads((folder / "config.json").read_text(encoding="utf-8"))["model"]["encoder"]
    config = BertConfig(
        vocab_size=shape["vocab_size"],
        hidden_size=shape["hidden_size"],
        num_hidden_layers=shape["n_layers"],
        num_attention_heads=shape["n_heads"],
        intermediate_size=shape["intermediate_size"] or 4 * shape["hidden_size"],
        max_position_embeddings=shape["max_positions"],
        layer_norm_eps=shape["layer_norm_eps"],
        hidden_act="gelu_pytorch_tanh",
        id2label=dict(enumerate(labels)),
        label2id={label: number for number, label in enumerate(labels)},
        **options,
    )
    model = BertForSequenceClassification(config)
    weights = load_file(folder / "model.safetensors")
    state = model.state_dict()
    embeddings = {"word": "token", "position": "position", "token_type": "segment"}
    for theirs, ours in embeddings.items():
        state[f"bert.embeddings.{theirs}_embeddings.weight"] = weights[f"encoder.embeddings.{ours}.weight"]
    for layer in range(shape["n_layers"]):
        own, block = f"bert.encoder.layer.{layer}", f"encoder.blocks.{layer}"
        mixed = weights[f"{block}.attention.query_key_value.weight"].chunk(3)
        for part, weight in zip(("query", "key", "value"), mixed, strict=True):
            state[f"{own}.attention.self.{part}.weight"] = weight
            state[f"{own}.attention.self.{part}.bias"] = torch.zeros(len(weight))
        state[f"{own}.attention.output.dense.weight"] = weights[f"{block}.attention.output.weight"]
        state[f"{own}.attention.output.dense.bias"] = torch.zeros(shape["hidden_size"])
        for theirs, ours in {
            "attention.output.LayerNorm": "attention_norm",
            "intermediate.dense": "feed_forward.up",
            "output.dense": "feed_forward.down",
            "output.LayerNorm": "output_norm",
        }.items():
            for part in ("weight", "bias"):
                state[f"{own}.{theirs}.{part}"] = weights[f"{block}.{ours}.{part}"]
    for part in ("weight", "bias"):
        state[f"classifier.{part}"] = weights[f"classifier.output.{part}"]
    model.load_state_dict(state)
    model.bert.embeddings.LayerNorm = torch.nn.Identity()
    model.bert.pooler = First()
    return model.eval()


def load_fast_tokenizer(folder: Path) -> Any:
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    if is_library_s(folder):
        return AutoTokenizer.from_pretrained(folder)
    names = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    return PreTrainedTokenizerFast(
        tokenizer_file=str(folder / "tokenizer.json"),
        mask_token="[MASK]",
        model_max_length=MAX_LENGTH,
        model_input_names=list(INPUTS),
        **names,
    )


def pipeline_way(batch: int) -> Callable[[Path], Label]:
    def load(model: Path) -> Label:
        from transformers import pipeline

        pipe = pipeline(
            "text-classification", model=build_bert(model), tokenizer=load_fast_tokenizer(model), device=-1
        )
        return lambda texts: [
            said["label"]
            for said in pipe(list(texts), batch_size=batch, truncation=True, max_length=MAX_LENGTH)
        ]

    return load


def optimum_way(model: Path) -> Label:
    from optimum.onnxruntime import ORTModelForSequenceClassification
    from transformers import pipeline

    session = ORTModelForSequenceClassification.from_pretrained(model)
    pipe = pipeline("text-classification", model=session, tokenizer=load_fast_tokenizer(model), device=-1)
    return lambda texts: [
        said["label"]
        for said in pipe(list(texts), batch_size=FILE_BATCH, truncation=True, max_length=MAX_LENGTH)
    ]


def onnxruntime_way(model: Path) -> Label:
    """ONNX Runtime as its documentation starts: one session, batches in file order."""
    import onnxruntime

    labels, encode = _serving_parts(model)
    session = onnxruntime.InferenceSession(str(model / "model.onnx"), providers=["CPUExecutionProvider"])

    def label(texts: Sequence[str]) -> list[str]:
        found = []
        for start in range(0, len(texts), FILE_BATCH):
            rows = encode(texts[start : start + FILE_BATCH])
            (logits,) = session.run(["logits"], _feed(rows, [node.name for node in session.get_inputs()]))
            found += [labels[index] for index in logits.argmax(axis=1)]
        return found

    return label


def openvino_way(model: Path) -> Label:
    """OpenVINO for throughput: texts sorted by length, a stream on each CPU."""
    import openvino

    labels, encode = _serving_parts(model)
    core = openvino.Core()
    settings = {
        "PERFORMANCE_HINT": "THROUGHPUT",
        "NUM_STREAMS": str(THREADS),
        "INFERENCE_PRECISION_HINT": "f32",
    }
    path = model / ("model.xml" if (model / "model.xml").exists() else "model.onnx")
    compiled = core.compile_model(core.read_model(path), "CPU", settings)
    names = [node.any_name for node in compiled.inputs]
    idle: SimpleQueue[Any] = SimpleQueue()
    for _ in range(THREADS):
        idle.put(compiled.create_infer_request())

    def label(texts: Sequence[str]) -> list[str]:
        found = [""] * len(texts)

        def run(batch: tuple[Any, list[list[int]]]) -> None:
            chosen, rows = batch
            request = idle.get()
            logits = request.infer(_feed(rows, names))["logits"]
            for row, index in zip(chosen, logits.argmax(axis=1), strict=True):
                found[row] = labels[index]
            idle.put(request)

        with ThreadPoolExecutor(THREADS) as pool:
            list(pool.map(run, _sorted_batches(encode(texts))))
        return found

    return label


def ctranslate2_way(precision: str) -> Callable[[Path], Label]:
    """CTranslate2: texts sorted by length, a batch on each CPU."""
    return lambda model: _load_ctranslate2(model, precision)


def _load_ctranslate2(model: Path, precision: str) -> Label:
    import ctranslate2

    labels, encode = _serving_parts(model)
    head = np.load(model / "head.npz")
    encoder = ctranslate2.Encoder(
        str(model), device="cpu", compute_type=precision, inter_threads=THREADS, intra_threads=1
    )

    def label(texts: Sequence[str]) -> list[str]:
        found = [""] * len(texts)

        def run(batch: tuple[Any, list[list[int]]]) -> None:
            chosen, rows = batch
            hidden = np.array(encoder.forward_batch(rows).last_hidden_state)[:, 0]
            if "pooler.weight" in head:
                hidden = np.tanh(hidden @ head["pooler.weight"].T + head["pooler.bias"])
            logits = hidden @ head["weight"].T + head["bias"]
            for row, index in zip(chosen, logits.argmax(axis=1), strict=True):
                found[row] = labels[index]

        with ThreadPoolExecutor(THREADS) as pool:
            list(pool.map(run, _sorted_batches(encode(texts))))
        return found

    return label


def torch_way(model: Path) -> Label:
    """The model in torch as twil trains it, batches in file order: where transformers has no such model."""
    import torch

    from twil.model.folder import load_with_tokenizer

    loaded, _ = load_with_tokenizer(model)
    labels, encode = _serving_parts(model)
    loaded.eval()

    def label(texts: Sequence[str]) -> list[str]:
        found = []
        for start in range(0, len(texts), FILE_BATCH):
            feed = _feed(encode(texts[start : start + FILE_BATCH]), TWIL_INPUTS)
            with torch.inference_mode():
                logits = loaded(**{name: torch.from_numpy(array) for name, array in feed.items()})
            found += [labels[index] for index in logits.argmax(dim=1).tolist()]
        return found

    return label


def twil_way(bundle: Path) -> Label:
    """The predictor of twil as `twil predict` has it."""
    from twil.inference.predictor import Predictor

    predictor = Predictor(bundle, provider="cpu", side_by_side=True)
    return lambda texts: [said.label for said in predictor(texts)]


def twil_alone_way(bundle: Path) -> Label:
    """The predictor as it is for single texts: all threads on one."""
    from twil.inference.predictor import Predictor

    predictor = Predictor(bundle, provider="cpu")
    return lambda texts: [predictor(text).label for text in texts]


WAYS: dict[str, Callable[[Path], Label]] = {
    "pipeline-1": pipeline_way(1),
    "pipeline-32": pipeline_way(FILE_BATCH),
    "optimum": optimum_way,
    "onnxruntime": onnxruntime_way,
    "openvino": openvino_way,
    "ctranslate2": ctranslate2_way("int8"),
    "ctranslate2-fp32": ctranslate2_way("float32"),
    "torch": torch_way,
    "twil": twil_way,
    "twil-alone": twil_alone_way,
}


def _serving_parts(model: Path) -> tuple[list[str], Callable[[Sequence[str]], list[list[int]]]]:
    """Give the labels, and what turns texts into tokens, for ways that bring no tokenizer of their own."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(model / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(MAX_LENGTH)
    return read_labels(model), lambda texts: [row.ids for row in tokenizer.encode_batch_fast(list(texts))]


def _feed(rows: Sequence[Sequence[int]], names: Sequence[str]) -> dict[str, Any]:
    """Pad rows to the longest; the inputs of BERT or of twil, in that order, as many as are named."""
    longest = max(map(len, rows))
    ids, mask = np.zeros((2, len(rows), longest), dtype=np.int64)
    for number, row in enumerate(rows):
        ids[number, : len(row)], mask[number, : len(row)] = row, 1
    arrays = {"input_ids": ids, "attention_mask": mask, "token_type_ids": 0 * ids, "segment_ids": 0 * ids}
    return {name: arrays[name] for name in names}


def _sorted_batches(rows: Sequence[list[int]]) -> Iterator[tuple[list[int], list[list[int]]]]:
    order = sorted(range(len(rows)), key=lambda row: -len(rows[row]))
    while order:
        count = max(1, SORTED_TOKENS // len(rows[order[0]]))
        chosen, order = order[:count], order[count:]
        yield chosen, [rows[row] for row in chosen]


def make_onnx(model: Path, target: Path) -> None:
    """Write BERT as ONNX with its configuration, as optimum and others read it."""
    import torch

    bert = build_bert(model)
    target.mkdir(parents=True, exist_ok=True)
    dummy = tuple(torch.ones((3, 9), dtype=torch.int64) for _ in INPUTS)

    class Graph(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.bert = bert

        def forward(self, ids: Any, mask: Any, segments: Any) -> Any:
            return self.bert(input_ids=ids, attention_mask=mask, token_type_ids=segments).logits

    axes = {name: {0: "batch", 1: "sequence"} for name in INPUTS}
    torch.onnx.export(
        Graph().eval(),
        dummy,
        str(target / "model.onnx"),
        input_names=list(INPUTS),
        output_names=["logits"],
        dynamic_axes={**axes, "logits": {0: "batch"}},
        opset_version=17,
        dynamo=False,
    )
    _copy_parts(model, target)
    ours = json.loads((model / "config.json").read_text(encoding="utf-8"))
    theirs = {
        "architectures": ["BertForSequenceClassification"],
        **json.loads(bert.config.to_json_string(use_diff=False)),
    }
    own = {"model": ours["model"]} if "model" in ours else {}
    (target / "config.json").write_text(json.dumps({**theirs, **own}), encoding="utf-8")


def make_openvino_int8(source: Path, target: Path, texts: Sequence[str]) -> None:
    """Quantise an ONNX file with nncf, for transformers, on some texts."""
    import nncf
    import openvino

    target.mkdir(parents=True, exist_ok=True)
    model = openvino.Core().read_model(source / "model.onnx")
    _, encode = _serving_parts(source)
    names = [node.any_name for node in model.inputs]
    feeds = [_feed([row], names) for row in encode(texts[:CALIBRATION_ROWS])]
    quantised = nncf.quantize(
        model, nncf.Dataset(feeds), model_type=nncf.ModelType.TRANSFORMER, subset_size=len(feeds)
    )
    openvino.save_model(quantised, target / "model.xml", compress_to_fp16=False)
    _copy_parts(source, target, config=True)


def make_ctranslate2(model: Path, target: Path) -> None:
    """Write the encoder for CTranslate2 in int8, and the classifier's weights beside it."""
    from ctranslate2.converters.transformers import BertLoader
    from ctranslate2.converters.utils import fuse_linear
    from ctranslate2.specs import common_spec, transformer_spec

    bert = build_bert(model)
    parts, config = bert.bert, bert.config
    spec = transformer_spec.TransformerEncoderModelSpec(
        transformer_spec.TransformerEncoderSpec(
            config.num_hidden_layers,
            config.num_attention_heads,
            pre_norm=False,
            activation=getattr(common_spec.Activation, "GELU" if config.hidden_act == "gelu" else "GELUTanh"),
            layernorm_embedding=is_library_s(model),
            num_source_embeddings=2,
            embeddings_merge=common_spec.EmbeddingsMerge.ADD,
        )
    )
    loader, encoder = BertLoader(), spec.encoder
    encoder.scale_embeddings = False
    loader.set_embeddings(encoder.embeddings[0], parts.embeddings.word_embeddings)
    loader.set_embeddings(encoder.embeddings[1], parts.embeddings.token_type_embeddings)
    loader.set_position_encodings(encoder.position_encodings, parts.embeddings.position_embeddings)
    if is_library_s(model):
        loader.set_layer_norm(encoder.layernorm_embedding, parts.embeddings.LayerNorm)
    for own, layer in zip(encoder.layer, parts.encoder.layer, strict=True):
        attention = layer.attention
        mixed = [common_spec.LinearSpec() for _ in range(3)]
        for linear, name in zip(mixed, ("query", "key", "value"), strict=True):
            loader.set_linear(linear, getattr(attention.self, name))
        fuse_linear(own.self_attention.linear[0], mixed)
        loader.set_linear(own.self_attention.linear[1], attention.output.dense)
        loader.set_layer_norm(own.self_attention.layer_norm, attention.output.LayerNorm)
        loader.set_linear(own.ffn.linear_0, layer.intermediate.dense)
        loader.set_linear(own.ffn.linear_1, layer.output.dense)
        loader.set_layer_norm(own.ffn.layer_norm, layer.output.LayerNorm)
    tokenizer = load_fast_tokenizer(model)
    spec.register_vocabulary([tokenizer.convert_ids_to_tokens(number) for number in range(config.vocab_size)])
    spec.config.unk_token = tokenizer.unk_token
    spec.config.layer_norm_epsilon = config.layer_norm_eps
    spec.validate()
    spec.optimize()  # what it is computed in is chosen where it is loaded
    target.mkdir(parents=True, exist_ok=True)
    spec.save(str(target))
    weights = {name: tensor.detach().numpy() for name, tensor in bert.classifier.named_parameters()}
    if is_library_s(model):
        pooler = parts.pooler.dense.named_parameters()
        weights |= {f"pooler.{name}": tensor.detach().numpy() for name, tensor in pooler}
    np.savez(target / "head.npz", **weights)
    kept = json.loads((target / "config.json").read_text(encoding="utf-8"))
    ours = json.loads((model / "config.json").read_text(encoding="utf-8"))
    own = {key: ours[key] for key in ("model", "id2label") if key in ours}
    (target / "config.json").write_text(json.dumps({**kept, **own}), encoding="utf-8")
    _copy_parts(model, target)


def _copy_parts(source: Path, target: Path, *, config: bool = False) -> None:
    for name in ("tokenizer.json", *(["config.json"] if config else [])):
        (target / name).write_bytes((source / name).read_bytes())


def make(way: str, model: Path, target: Path, texts: Path | None) -> None:
    if way == "openvino-int8":
        assert texts is not None
        make_openvino_int8(model, target, [row[1] for row in read_rows(texts)])
    elif way == "ctranslate2":
        make_ctranslate2(model, target)
    else:
        make_onnx(model, target)


def read_rows(path: Path) -> list[tuple[str, str]]:
    """Read ids and texts of a TSV."""
    lines = path.read_text(encoding="utf-8").split("\n")[1:]
    return [(cells[0], cells[1]) for cells in (line.split("\t") for line in lines if line)]


def serve(way: str, model: Path) -> None:
    """Answer each line on standard input: a file of texts, from row, to row; with seconds and labels."""
    label = WAYS[way](model)
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print is no answer
    print(json.dumps("ready"), file=answers, flush=True)
    for line in sys.stdin:
        path, begin, end = json.loads(line)
        texts = [row[1] for row in read_rows(Path(path))[begin:end]]
        started = time.perf_counter()
        found = label(texts)
        seconds = time.perf_counter() - started
        print(
            json.dumps({"seconds": seconds, "labels": found, "memory": peak_memory()}),
            file=answers,
            flush=True,
        )


def label_file(way: str, model: Path, source: Path, target: Path) -> None:
    rows = read_rows(source)
    found = WAYS[way](model)([text for _, text in rows])
    lines = [f"{number}\t{label}" for (number, _), label in zip(rows, found, strict=True)]
    target.write_text("\n".join(["ID\tlabel", *lines]) + "\n", encoding="utf-8")
    print(peak_memory())


def peak_memory() -> int:
    """Return the peak of this process alone; what `resource` tells begins with that of its parent."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(status.split("VmHWM:")[1].split()[0]) * 1024


if __name__ == "__main__":
    verb, way, *paths = sys.argv[1:]
    folders = [Path(path) for path in paths]
    if verb == "make":
        make(way, folders[0], folders[1], folders[2] if len(folders) > 2 else None)
    elif verb == "serve":
        serve(way, folders[0])
    else:
        label_file(way, *folders)
