"""Labelled sets and the tokenizer. Imports no torch: the deploy path uses it."""
