"""Metrics: pure functions over arrays and lists. No files, no models, no torch.

    scores = metrics.anls_scores(answers, references)          # one score per question, (N,)
    metrics.bootstrap_mean(scores)                             # mean with its confidence interval

Shares are in [0, 1], never in percent. Input that has no value is a `DataError` that says what was expected.
docs/metrics.md lists every metric with its definition.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from perceptic.metrics.accuracy import mean_per_class_recall, top_k_accuracy, top_k_hits
    from perceptic.metrics.bootstrap import (
        ConfidenceInterval,
        Resampling,
        bootstrap_average,
        bootstrap_mean,
        bootstrap_statistic,
        bootstrap_sums,
    )
    from perceptic.metrics.checks import mean_by_group
    from perceptic.metrics.cider import caption_tokens, cider_scores
    from perceptic.metrics.confusion import class_ious, class_recalls, confusion_counts
    from perceptic.metrics.depth import DepthScores, depth_scores
    from perceptic.metrics.judge_replies import JudgedScore, Verdict, parse_score, parse_verdict
    from perceptic.metrics.modes import Mode
    from perceptic.metrics.plm_answers import (
        Choice,
        Event,
        ReadEvents,
        ReadStretch,
        fallback_stretch,
        parse_choice,
        parse_events,
        parse_stretch,
    )
    from perceptic.metrics.ranking import average_precision, mean_average_precision
    from perceptic.metrics.retrieval import Ranks, RetrievalRanks, dual_softmax, retrieval_ranks
    from perceptic.metrics.segmentation import mean_iou, pixel_accuracy
    from perceptic.metrics.soda import SodaScore, soda_c
    from perceptic.metrics.temporal import Localisation, Stretch, localisation, temporal_iou
    from perceptic.metrics.text_answers import (
        anls_score,
        anls_scores,
        ocrbench_hit,
        relaxed_match,
        relaxed_matches,
        token_f1,
    )
    from perceptic.metrics.video_bench import (
        VIDEO_BENCH_WEIGHTS,
        JudgedScores,
        VideoBench,
        group_all_correct,
        judged_scores,
        multi_binary_accuracy,
    )
    from perceptic.metrics.video_segmentation import (
        ObjectScore,
        RegionAndBoundary,
        boundary_similarity,
        region_and_boundary,
        region_similarity,
        video_object_scores,
    )
    from perceptic.metrics.vqa import normalise_answer, vqa_score, vqa_scores
    from perceptic.metrics.yes_no import (
        MmeCategory,
        MmeScores,
        YesNoScores,
        f1_of_counts,
        mme_scores,
        parse_mme,
        parse_pope,
        yes_no_counts,
        yes_no_scores,
    )

__all__ = [
    "VIDEO_BENCH_WEIGHTS",
    "Choice",
    "ConfidenceInterval",
    "DepthScores",
    "Event",
    "JudgedScore",
    "JudgedScores",
    "Localisation",
    "MmeCategory",
    "MmeScores",
    "Mode",
    "ObjectScore",
    "Ranks",
    "ReadEvents",
    "ReadStretch",
    "RegionAndBoundary",
    "Resampling",
    "RetrievalRanks",
    "SodaScore",
    "Stretch",
    "Verdict",
    "VideoBench",
    "YesNoScores",
    "anls_score",
    "anls_scores",
    "average_precision",
    "bootstrap_average",
    "bootstrap_mean",
    "bootstrap_statistic",
    "bootstrap_sums",
    "boundary_similarity",
    "caption_tokens",
    "cider_scores",
    "class_ious",
    "class_recalls",
    "confusion_counts",
    "depth_scores",
    "dual_softmax",
    "f1_of_counts",
    "fallback_stretch",
    "group_all_correct",
    "judged_scores",
    "localisation",
    "mean_average_precision",
    "mean_by_group",
    "mean_iou",
    "mean_per_class_recall",
    "mme_scores",
    "multi_binary_accuracy",
    "normalise_answer",
    "ocrbench_hit",
    "parse_choice",
    "parse_events",
    "parse_mme",
    "parse_pope",
    "parse_score",
    "parse_stretch",
    "parse_verdict",
    "pixel_accuracy",
    "region_and_boundary",
    "region_similarity",
    "relaxed_match",
    "relaxed_matches",
    "retrieval_ranks",
    "soda_c",
    "temporal_iou",
    "token_f1",
    "top_k_accuracy",
    "top_k_hits",
    "video_object_scores",
    "vqa_score",
    "vqa_scores",
    "yes_no_counts",
    "yes_no_scores",
]

_NAMES = {
    "accuracy": ("mean_per_class_recall", "top_k_accuracy", "top_k_hits"),
    "bootstrap": (
        "ConfidenceInterval",
        "Resampling",
        "bootstrap_average",
        "bootstrap_mean",
        "bootstrap_statistic",
        "bootstrap_sums",
    ),
    "checks": ("mean_by_group",),
    "cider": ("caption_tokens", "cider_scores"),
    "confusion": ("class_ious", "class_recalls", "confusion_counts"),
    "depth": ("DepthScores", "depth_scores"),
    "judge_replies": ("JudgedScore", "Verdict", "parse_score", "parse_verdict"),
    "modes": ("Mode",),
    "plm_answers": (
        "Choice",
        "Event",
        "ReadEvents",
        "ReadStretch",
        "fallback_stretch",
        "parse_choice",
        "parse_events",
        "parse_stretch",
    ),
    "ranking": ("average_precision", "mean_average_precision"),
    "retrieval": ("Ranks", "RetrievalRanks", "dual_softmax", "retrieval_ranks"),
    "segmentation": ("mean_iou", "pixel_accuracy"),
    "soda": ("SodaScore", "soda_c"),
    "temporal": ("Localisation", "Stretch", "localisation", "temporal_iou"),
    "text_answers": (
        "anls_score",
        "anls_scores",
        "ocrbench_hit",
        "relaxed_match",
        "relaxed_matches",
        "token_f1",
    ),
    "video_bench": (
        "JudgedScores",
        "VIDEO_BENCH_WEIGHTS",
        "VideoBench",
        "group_all_correct",
        "judged_scores",
        "multi_binary_accuracy",
    ),
    "video_segmentation": (
        "ObjectScore",
        "RegionAndBoundary",
        "boundary_similarity",
        "region_and_boundary",
        "region_similarity",
        "video_object_scores",
    ),
    "vqa": ("normalise_answer", "vqa_score", "vqa_scores"),
    "yes_no": (
        "MmeCategory",
        "MmeScores",
        "YesNoScores",
        "f1_of_counts",
        "mme_scores",
        "parse_mme",
        "parse_pope",
        "yes_no_counts",
        "yes_no_scores",
    ),
}
_HOMES = {name: module for module, names in _NAMES.items() for name in names}


def __getattr__(name: str) -> Any:
    # PEP 562: parts load when first used.
    if name not in _HOMES:
        raise AttributeError(f"module 'perceptic.metrics' has no attribute '{name}'")
    value = getattr(importlib.import_module(f"perceptic.metrics.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
