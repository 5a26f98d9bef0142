"""Recipes of fine-tuning: shared tasks of Spanish tweets, and a comparison on film reviews."""
