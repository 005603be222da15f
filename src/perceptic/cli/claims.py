"""`perceptic claims`: the papers' claims in miniature."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from perceptic.cli._shared import json_option, print_json

if TYPE_CHECKING:
    from perceptic.evaluate.claims.runner import Finding


@click.command()
@click.argument("numbers", nargs=-1, type=int)
@click.option("--list", "only_list", is_flag=True, help="Say which claims there are and what each takes, and stop.")
@click.option("--seeds", "num_seeds", type=click.IntRange(min=1), default=3, show_default=True)
@click.option(
    "--budget",
    "budget_minutes",
    type=click.FloatRange(min=0),
    default=20.0,
    show_default=True,
    help="Minutes for each claim; afterwards no further seed is begun.",
)
@click.option(
    "--scale",
    type=click.FloatRange(min=0, min_open=True),
    default=1.0,
    show_default=True,
    help="Times the steps of every training: 4 tells more, in four times the time.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=Path("claims"),
    show_default=True,
    help="Folder of pages, results and trained models.",
)
@json_option
def command(
    numbers: tuple[int, ...],
    only_list: bool,
    num_seeds: int,
    budget_minutes: float,
    scale: float,
    out: Path,
    as_json: bool,
) -> None:
    """Try the claims of these NUMBERS (all without any): expected direction, effect with its interval, verdict.

    Numbers are those of the list of claims in docs/claims.md. Every seed's result and every trained model is kept in
    --out: the same command goes on where it stopped, --seeds 5 adds two to three, and the pages show all that is there.
    """
    from perceptic.cli._stages import stage_bar
    from perceptic.evaluate.claims.registry import CLAIMS, find_claims
    from perceptic.evaluate.claims.report import HEADINGS, write_findings
    from perceptic.evaluate.claims.runner import ClaimOptions, finding_values, kept_findings, run_claims

    claims = find_claims(numbers)
    if only_list:
        for claim in claims:
            minutes = num_seeds * claim.minutes
            click.echo(f"{claim.number:3}  {claim.title} (about {minutes:.0f} minutes of one core, {num_seeds} seeds)")
        return
    if not as_json:
        click.echo(f"| {' | '.join(HEADINGS)} |")
        click.echo("| --- " * len(HEADINGS) + "|")
    options = ClaimOptions(num_seeds, budget_minutes, scale=scale)
    with stage_bar() as on_progress:
        findings = run_claims(claims, options, out, on_progress, on_finding=_silent if as_json else _print)
    write_findings(kept_findings(CLAIMS.values(), options, out), out)
    if as_json:
        print_json([finding_values(finding) for finding in findings])
        return
    for claim in claims:
        if all(finding.claim is not claim for finding in findings):
            click.echo(
                f"claim {claim.number}: not run, the budget of {budget_minutes:g} minutes allows no seed", err=True
            )
    click.echo(f"\n{out / 'claims.html'}: pages with plots")


def _print(finding: Finding) -> None:
    from perceptic.evaluate.claims.report import finding_rows

    for row in finding_rows(finding):
        click.echo(f"| {' | '.join(row)} |")
    reason = f" (not met: {'; '.join(finding.unmet)})" if finding.unmet else ""
    click.echo(f"| {finding.claim.number} | **{finding.claim.title}** | | | | | **{finding.verdict}**{reason} |")


def _silent(finding: Finding) -> None:
    pass
