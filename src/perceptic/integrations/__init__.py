"""Thin adapters that other programs load: the public API alone, in their words."""
