"""Two ways to read answers.

`compatible` reads as the public evaluation harness does (lmms-eval 0.7.2), oddities included: for numbers that stand
beside published ones. `clean` reads what a careful person would read. A report says which of them made a number.
"""

from __future__ import annotations

from typing import Literal, get_args

from perceptic.errors import ConfigError

Mode = Literal["compatible", "clean"]


def require_mode(mode: Mode) -> Mode:
    if mode not in get_args(Mode):
        raise ConfigError(f"mode must be one of {', '.join(get_args(Mode))}, not {mode!r}")
    return mode
