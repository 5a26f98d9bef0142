"""A bundle as what is measured; as a program, the process that measures it."""

from __future__ import annotations

from twil.bundle.bundle import open_bundle
from twil.bundle.providers import ON_NVIDIA, device_name
from twil.bundle.session import Session
from twil.evaluation.benchmark.timing import Facts, Subject
from twil.evaluation.benchmark.worker import Opening, serve
from twil.text.tokenizer import load_tokenizer

MODULE = "twil.evaluation.benchmark.bundle_process"


def open_measured(opening: Opening) -> Subject:
    """Open a bundle of any kind as prediction does; all its outputs are computed.

    Raises:
        ModelError: It is damaged, or is none.
        ProviderError: The provider asked for cannot be had.
        MissingExtraError: ONNX Runtime is not installed.
    """
    bundle = open_bundle(opening.folder)
    session = Session(bundle, provider=opening.provider, threads=opening.threads)  # type: ignore[arg-type]  # checked there
    facts = Facts(
        engine="onnxruntime",
        version=session.version,
        provider=session.provider,
        reason=session.reason,
        device=device_name() if session.provider in ON_NVIDIA else "",
        precision=bundle.manifest.precision,
        kind=bundle.manifest.kind,
        threads=session.threads,
        max_length=bundle.manifest.max_length,
        tokens=load_tokenizer(bundle.tokenizer).get_vocab_size(with_added_tokens=True),
    )
    return Subject(session.run, facts)


if __name__ == "__main__":
    serve(open_measured)
