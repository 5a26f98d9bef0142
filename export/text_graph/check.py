"""Does a graph that takes texts read them as `tokenizer.json` does, and answer as the bundle's graph?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer

from twil.bundle.bundle import INPUTS, Bundle
from twil.bundle.runtime import import_runtime, open_graph
from twil.bundle.session import Session
from twil.core.errors import ExportError, first_line, require
from twil.data.batching import Batch, Int64Array, pad_batch
from twil.exporting.probes import TEXTS as EVERYDAY
from twil.exporting.text_graph.build import TEXTS, TextFront
from twil.text.tokenizer import encode, load_tokenizer

TOLERANCE = 1e-5
"""The largest difference from the outputs of the bundle's graph for the same tokens."""

ODD_TEXTS = (
    *("   ", "null", "NaN", "N/A", "None", "  dos  espacios   y uno al final ", "\tuna línea\r\n\r\notra "),
    *("a\u00a0b\u200bc\u2028d\ufeff", "\x01\x02 controles \x7f\x85", "\u2581\u2581 barra ▅ bloque"),
    *("[MASK]", "hoy es un [MASK] día", "  [MASK][MASK]ndo [MASK] ", "@ana[MASK]@luis https://a.es[MASK]b"),
    *("a &nbsp;[MASK] b", "[CLS] ni [SEP] ni [PAD] ni [UNK]", "[MASK"),
    *(
        "cafe\u0301 con man\u0303ana, pingu\u0308ino y A\u030angstro\u0308m",
        "\u1107\u1161\u11bc 가\u11a8",
        "\u0301suelto",
        "a\u0323\u0302 a\u0302\u0323",
    ),
    *(
        "&lt;b&gt; &quot;x&quot; &#39;y&#039; &apos;z&apos; a&nbsp;b",
        "&amp;lt; &amp;amp;",
        "&nbsp;&lt;3",
        "&#39;",
    ),
    *("(https://t.co/abc). HTTP://A.ES/B! http:/", "www.a.es, WWW.A.ES/ñ… Www.a.es wWw.a.es", "https://…"),
    *("miradpic.twitter.com/abc t.co/x xt.co/x @t.co/x", "https://a.es/pic.twitter.com/x www.b.es/@ana"),
    *("@ana@luis @@ana .@ñandú, juan@correo.example tod@s", "https://½ ½@ana Ⓢ@ana 日本@ana @日本"),
    *("👩🏽‍🚀❤️‍🔥🏳️‍🌈 1️⃣ ©️", "🫨🩷\U0001fae9 \U000e0067", "日本 हिन्दी عربي", "\ud7a4 \ufffd \U0010ffff"),
    *("ja" * 3_000, "😀🫠 " * 300 + "jajaja jeje " * 100),
)
"""Texts on which tokenizers differ, beside everyday ones."""

_ROWS = 16
_SHOWN = 60  # characters of a text, or tokens, in a message


def check_text_graph(bundle: Bundle, graph: Path, front: TextFront, texts: Sequence[str] = ()) -> int:
    """Hold a graph that takes texts to the bundle that it was made of, and count the texts tried.

    Args:
        bundle: With its own graph.
        graph: What takes texts.
        front: Its part before the model.
        texts: More texts whose tokens must be the same, beside those that are always tried.

    Raises:
        ExportError: A text gets other tokens or another answer, or the graph does not run.
        MissingExtraError: onnxruntime-extensions is not installed.
    """
    fixed = (*EVERYDAY, *ODD_TEXTS)
    tokenizer = load_tokenizer(bundle.tokenizer)
    alone = Session(bundle, provider="cpu")
    reader = _open(front.model(), 1)
    for some in _chunks((*fixed, *texts)):
        _check_tokens(tokenizer, some, _run(reader, list(INPUTS), some))
    joined = _open(graph, alone.threads)  # as many, so that sums are taken in the same order
    for some in _chunks(fixed):
        expected = alone.run(_batch(tokenizer, some))
        found = _run(joined, list(expected), some)
        for name, values in zip(expected, found, strict=True):
            difference = float(np.abs(values - expected[name]).max())
            if not difference <= TOLERANCE:  # NaN is not
                raise _refused(f"its {name} differ from those of the bundle's graph by {difference:.2g}")
    return len(fixed) + len(texts)


def _check_tokens(tokenizer: Tokenizer, texts: Sequence[str], found: Sequence[Int64Array]) -> None:
    batch = _batch(tokenizer, texts)
    expected = [getattr(batch, name) for name in INPUTS]
    if all(np.array_equal(one, other) for one, other in zip(found, expected, strict=True)):
        return
    for text, ours, theirs in zip(texts, _rows(*expected[:2]), _rows(*found[:2]), strict=True):
        if ours != theirs:
            shown = ascii(text[:_SHOWN]) + ("…" if len(text) > _SHOWN else "")
            tokens = (" ".join(map(str, map(tokenizer.id_to_token, row[:_SHOWN]))) for row in (ours, theirs))
            raise _refused("the text {} becomes {} in tokenizer.json and {} in it".format(shown, *tokens))
    raise _refused("its pads are not those of the bundle")


def _rows(ids: Int64Array, mask: Int64Array) -> list[list[int]]:
    """Give each row's tokens without pads."""
    return [row[kept != 0].tolist() for row, kept in zip(ids, mask, strict=True)]


def _chunks(texts: Sequence[str]) -> Iterator[Sequence[str]]:
    return (texts[start : start + _ROWS] for start in range(0, len(texts), _ROWS))


def _batch(tokenizer: Tokenizer, texts: Sequence[str]) -> Batch:
    return pad_batch(encode(tokenizer, texts).input_ids)


def _open(graph: Path | bytes, threads: int) -> Any:
    extensions = require("onnxruntime_extensions", purpose="--text-in")
    try:
        library = extensions.get_library_path()
        return open_graph(import_runtime(), graph, threads=threads, operators=library)
    except Exception as error:  # ONNX Runtime's errors have no base of their own
        raise _refused(f"it cannot be loaded ({first_line(error)})") from error


def _run(session: Any, names: list[str], texts: Sequence[str]) -> list[Any]:
    try:
        found: list[Any] = session.run(names, {TEXTS: np.array(texts, dtype=object)})
    except Exception as error:  # ONNX Runtime's errors have no base of their own
        raise _refused(f"it fails on {len(texts)} texts ({first_line(error)})") from error
    return found


def _refused(fault: str) -> ExportError:
    return ExportError(f"the graph that takes texts is refused: {fault}. Export without --text-in")
