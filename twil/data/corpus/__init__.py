"""The corpus of pretraining: pairs and texts, cleaned, encoded once, held out by conversation.

What is dropped or changed in a text goes into `cleaning`.
"""
