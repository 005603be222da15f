"""What a person asks of a model: embed, classify, find similar, show.

The CLI and Python users call the same functions.
"""
