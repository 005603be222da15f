"""Which claims can be tried, by their numbers. A claim that is not here is not implemented."""

from __future__ import annotations

from collections.abc import Sequence

from perceptic.errors import ConfigError
from perceptic.evaluate.claims import (
    distilling,
    frames,
    grounding,
    layerwise,
    mirrored,
    order,
    overlay,
    recipes,
    targeted,
    video,
)
from perceptic.evaluate.claims.claim import Claim

_ENCODERS = (layerwise.CLAIM, grounding.CLAIM, order.CLAIM, distilling.CLAIM, mirrored.CLAIM, video.CLAIM)
_LANGUAGE = (targeted.CLAIM, frames.CLAIM, overlay.CLAIM)
CLAIMS: dict[int, Claim] = {
    claim.number: claim for claim in sorted((*recipes.CLAIMS, *_ENCODERS, *_LANGUAGE), key=lambda claim: claim.number)
}


def find_claims(numbers: Sequence[int]) -> list[Claim]:
    """The claims of these numbers, all of them for none. Raises ConfigError for a number that is not here."""
    missing = [str(number) for number in numbers if number not in CLAIMS]
    if missing:
        raise ConfigError(
            f"claim {', '.join(missing)}: not implemented; there are {', '.join(str(number) for number in CLAIMS)}"
        )
    return [CLAIMS[number] for number in numbers] if numbers else list(CLAIMS.values())
