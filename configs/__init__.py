"""Recipes of pretraining: the published shapes of TWilBERT, with their reasons."""
