"""Running claims: seeds one after another, each result kept, a budget, and the findings of what is there."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from perceptic.errors import ConfigError, DataError
from perceptic.evaluate.claims.claim import (
    MIN_SEEDS,
    Claim,
    Curve,
    Estimate,
    Quantity,
    SeedResult,
    Setting,
    Verdict,
    estimate,
    judge,
    judge_all,
)
from perceptic.evaluate.claims.mini import weights_of
from perceptic.evaluate.request import OnProgress, ignore_progress
from perceptic.evaluate.result import versions
from perceptic.files import write_text


@dataclass(frozen=True)
class Effect:
    """A quantity with what was found for it."""

    quantity: Quantity
    estimate: Estimate
    verdict: Verdict


@dataclass(frozen=True)
class Finding:
    """A claim after its seeds. `seeds` without a result were not run: the budget was spent."""

    claim: Claim
    seeds: tuple[int, ...]
    results: tuple[SeedResult, ...]
    effects: tuple[Effect, ...]
    verdict: Verdict
    seconds: float
    out_of_budget: bool

    @property
    def unmet(self) -> tuple[str, ...]:
        """Conditions that do not hold, without which nothing is decided."""
        conditions = (effect for effect in self.effects if effect.quantity.is_condition)
        return tuple(effect.quantity.name for effect in conditions if effect.verdict != "holds")


@dataclass(frozen=True)
class ClaimOptions:
    """How claims are run: seeds 0, 1, ..., and minutes for each claim, after which no further seed is begun. `scale`
    multiplies the steps of what is trained."""

    num_seeds: int = 3
    budget_minutes: float = 20.0
    model: str = "PE-Core-Nano"
    scale: float = 1.0

    def __post_init__(self) -> None:
        if self.num_seeds < 1 or self.budget_minutes < 0 or self.scale <= 0:
            raise ConfigError("num_seeds must be at least 1, budget_minutes at least 0 and scale above 0")


def run_claim(
    claim: Claim, options: ClaimOptions, out: Path, on_progress: OnProgress = ignore_progress
) -> Finding | None:
    """Run the seeds that are missing and judge what is there; None if the budget allowed no seed at all.

    Results are kept as `claim-NN/seed-N.json` in `out`; a kept one is used again while the experiment is described by
    the same words and the same model. Raises DataError for a kept result that cannot be read.
    """
    started = time.perf_counter()
    results: dict[int, SeedResult] = {}
    out_of_budget = False
    for seed in range(options.num_seeds):
        path = out / f"claim-{claim.number:02d}" / f"seed-{seed}.json"
        kept = _kept(path, claim, options)
        if kept is None:
            if time.perf_counter() - started >= 60 * options.budget_minutes:
                out_of_budget = True
                continue
            on_progress(f"claim {claim.number}, seed {seed}", 0, 1)
            kept = claim.run(seed, Setting(out / "work", options.model, options.scale, on_progress))
            write_text(path, json.dumps({**_facts(claim, options), "versions": versions(), **asdict(kept)}, indent=1))
        results[seed] = kept
    if not results:
        return None
    return _finding(claim, results, time.perf_counter() - started, out_of_budget)


def run_claims(
    claims: Sequence[Claim],
    options: ClaimOptions,
    out: Path,
    on_progress: OnProgress = ignore_progress,
    on_finding: Callable[[Finding], None] = lambda finding: None,
) -> list[Finding]:
    """All of them, in their order; `on_finding` hears of each as it is judged."""
    findings = []
    for claim in claims:
        finding = run_claim(claim, options, out, on_progress)
        if finding is not None:
            findings.append(finding)
            on_finding(finding)
    return findings


def kept_findings(claims: Iterable[Claim], options: ClaimOptions, out: Path) -> list[Finding]:
    """What is kept in `out`; nothing is run."""
    return run_claims(list(claims), replace(options, budget_minutes=0), out)


def finding_values(finding: Finding) -> dict[str, Any]:
    """As JSON values."""
    return {
        "number": finding.claim.number,
        "title": finding.claim.title,
        "verdict": finding.verdict,
        "unmet_conditions": list(finding.unmet),
        "seeds": list(finding.seeds),
        "effects": [
            {
                "name": effect.quantity.name,
                "unit": effect.quantity.unit,
                "expected": effect.quantity.direction,
                "decides": effect.quantity.decides,
                "is_condition": effect.quantity.is_condition,
                "mean": effect.estimate.mean,
                "low": _defined(effect.estimate.low),
                "high": _defined(effect.estimate.high),
                "values": list(effect.estimate.values),
                "verdict": effect.verdict,
            }
            for effect in finding.effects
        ],
        "scores": [result.scores for result in finding.results],
        "seconds": round(finding.seconds, 1),
        "out_of_budget": finding.out_of_budget,
    }


def _finding(claim: Claim, results: dict[int, SeedResult], seconds: float, out_of_budget: bool) -> Finding:
    effects = []
    for quantity in claim.quantities:
        found = estimate([result.effects[quantity.name] for result in results.values()])
        effects.append(Effect(quantity, found, judge(quantity, found)))
    conditions = [effect.verdict for effect in effects if effect.quantity.is_condition]
    deciding = [effect.verdict for effect in effects if effect.quantity.decides and not effect.quantity.is_condition]
    verdict = judge_all(deciding, conditions)
    return Finding(claim, tuple(results), tuple(results.values()), tuple(effects), verdict, seconds, out_of_budget)


def _facts(claim: Claim, options: ClaimOptions) -> dict[str, str]:
    facts = {"experiment": claim.experiment, "model": claim.begins_with or options.model}
    if claim.begins_with:
        facts["weights"] = weights_of(claim.begins_with)
    return facts if options.scale == 1 else {**facts, "scale": f"{options.scale:g}"}


def _kept(path: Path, claim: Claim, options: ClaimOptions) -> SeedResult | None:
    if not path.exists():
        return None
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        facts = _facts(claim, options)
        if any(values.get(key) != facts.get(key) for key in ("experiment", "model", "weights", "scale")):
            return None
        curves = tuple(Curve(one["name"], tuple(one["x"]), tuple(one["y"])) for one in values["curves"])
        return SeedResult(values["effects"], values["scores"], curves)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path}: cannot be read as a claim's result; remove it ({error!r})") from error


def _defined(value: float) -> float | None:
    return value if value == value else None


__all__ = [
    "MIN_SEEDS",
    "ClaimOptions",
    "Effect",
    "Finding",
    "finding_values",
    "kept_findings",
    "run_claim",
    "run_claims",
]
