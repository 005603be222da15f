"""Benchmarks: a model and data in; numbers with intervals, every setting behind them and a report out."""
