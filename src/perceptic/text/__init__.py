"""Strings to ids and back: the CLIP tokenizer, its cleaning, and the training of small vocabularies."""
