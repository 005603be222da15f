"""What to do in training with a text that is longer than the context (spec 5, step 5).

Cutting always shows the model the beginning of long captions; the other ways show it a different part every epoch.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Literal, get_args

from perceptic.errors import TextError

Reduction = Literal["cut", "block", "subset", "shuffle"]


def shorten(
    ids: Sequence[int], limit: int, reduction: Reduction = "cut", rng: random.Random | None = None
) -> list[int]:
    """At most `limit` of the ids (no start or end among them); a text that fits comes back as it is.

    Args:
        reduction: `cut` keeps the first ids, `block` a random run of neighbours, `subset` a random choice in its old
            order, `shuffle` a random choice in random order.
        rng: source of chance; needed by all but `cut`, so that a training run can be repeated.

    Raises:
        TextError: an unknown way, or no `rng` for a random one.
    """
    if reduction not in get_args(Reduction):
        raise TextError(f"no length reduction is named {reduction!r}; known: {', '.join(get_args(Reduction))}")
    if reduction == "cut":
        return list(ids[:limit])
    if rng is None:
        raise TextError(f"length reduction {reduction!r} is random: pass rng=random.Random(seed)")
    if len(ids) <= limit:
        return list(ids)
    if reduction == "block":
        first = rng.randint(0, len(ids) - limit)
        return list(ids[first : first + limit])
    chosen = rng.sample(range(len(ids)), limit)
    return [ids[index] for index in (chosen if reduction == "shuffle" else sorted(chosen))]
