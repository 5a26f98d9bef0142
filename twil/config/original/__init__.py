"""The JSON configurations of the original TWilBERT, in twil's terms."""
