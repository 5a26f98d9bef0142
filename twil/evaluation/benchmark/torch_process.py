"""A model folder in eager PyTorch as what is measured; as a program, the process that measures it."""

from __future__ import annotations

from pathlib import Path

from twil.core.errors import ProviderError, require
from twil.core.machine import usable_threads
from twil.data.batching import Batch
from twil.evaluation.benchmark.timing import Facts, Subject
from twil.evaluation.benchmark.worker import Opening, serve

MODULE = "twil.evaluation.benchmark.torch_process"


def open_measured(opening: Opening) -> Subject:
    """Open a model folder in fp32: logits where it has a classifier, else hidden states.

    Raises:
        ModelError: It is none.
        ProviderError: Torch sees no CUDA device.
        MissingExtraError: Torch is not installed.
    """
    # Here, not above: who asks for this process loads no torch.
    torch = require("torch", purpose="measuring a model folder")
    from twil.model.folder import load_with_tokenizer
    from twil.train.devices import choose_device

    if opening.provider == "cuda" and not torch.cuda.is_available():
        raise ProviderError("torch sees no CUDA device: use --provider cpu, or install a CUDA build of torch")
    model, tokenizer = load_with_tokenizer(Path(opening.folder))
    device = choose_device(opening.provider, "fp32")
    threads = usable_threads(opening.threads or None)
    torch.set_num_threads(threads)
    model.to(device)
    compute = model.encode if model.own_task is None else model

    def run(batch: Batch) -> object:
        arrays = (batch.input_ids, batch.attention_mask, batch.segment_ids)
        with torch.inference_mode():
            return compute(*(torch.from_numpy(array).to(device) for array in arrays)).cpu()

    auto = "torch sees a CUDA device" if device.type == "cuda" else "torch sees no CUDA device"
    facts = Facts(
        engine="torch",
        version=str(torch.__version__),
        provider=device.type,
        reason=auto if opening.provider == "auto" else "",
        device=torch.cuda.get_device_name() if device.type == "cuda" else "",
        precision="fp32",
        kind="encoder" if model.own_task is None else "classifier",
        threads=threads,
        max_length=model.max_positions,
        tokens=tokenizer.get_vocab_size(with_added_tokens=True),
    )
    return Subject(run, facts)


if __name__ == "__main__":
    serve(open_measured)
