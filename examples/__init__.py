"""Texts written for twil: labelled tweets, tweet–reply pairs, and a file to predict."""
