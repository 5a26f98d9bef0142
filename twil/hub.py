"""TWilBERT in the world of the transformers library."""

from __future__ import annotations

from twil.core.errors import require


def register() -> None:
    """Let the library's `AutoModel` and its kin open model folders of twil, as they are on disk.

    These are `AutoConfig`, `AutoTokenizer`, `AutoModel`, `AutoModelForSequenceClassification` and
    `AutoModelForMaskedLM`, and so the library's pipelines. A second call changes nothing.

    Raises:
        MissingExtraError: The library, or torch, is not installed.
    """
    purpose = "opening a twil model with transformers"
    library = require("transformers", purpose=purpose)
    require("torch", purpose=purpose)

    from twil.model.hub import twilbert_network as network
    from twil.model.hub.twilbert_config import TwilbertConfig
    from twil.model.hub.twilbert_tokenizer import TwilbertTokenizer

    library.AutoConfig.register(TwilbertConfig.model_type, TwilbertConfig, exist_ok=True)
    library.AutoTokenizer.register(TwilbertConfig, fast_tokenizer_class=TwilbertTokenizer, exist_ok=True)
    for kind, model in (
        (library.AutoModel, network.TwilbertModel),
        (library.AutoModelForSequenceClassification, network.TwilbertForSequenceClassification),
        (library.AutoModelForMaskedLM, network.TwilbertForMaskedLM),
    ):
        kind.register(TwilbertConfig, model, exist_ok=True)
