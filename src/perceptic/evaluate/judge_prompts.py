"""What a judge is asked for PLM-VideoBench and judged question answering (datasets-and-benchmarks 2.4 and 2.5).

Content and form of the requests are the public harness's; the wording is our own, so that figures may differ by what a
judge makes of wording. Both ask for JSON that `metrics.parse_verdict` and `metrics.parse_score` read.
"""

from __future__ import annotations

from perceptic.evaluate.judge import JudgePrompt

WORDING = "perceptic-1"
"""Names the wording in reports; it changes when a word below changes."""

_VERDICT_SYSTEM = (
    "You are an expert evaluator of answers to questions about videos. You compare a predicted answer with the correct "
    "answer and decide whether they mean the same.\n"
    "- Judge by meaning, not by wording: synonyms and paraphrases are right.\n"
    "- A predicted answer that contradicts the correct answer or misses its main point is wrong."
)
_VERDICT_USER = (
    "Question: {question}\nCorrect answer: {reference}\nPredicted answer: {predicted}\n\n"
    "Is the predicted answer right? Reply only with a JSON dictionary with the keys \"pred\" ('yes' or 'no') and "
    '"score" (a whole number from 0 to 5, 5 for a perfect match). No other text. '
    'For example: {{"pred": "yes", "score": 4}}'
)
_SCORE_SYSTEM = (
    "You are an expert evaluator of video captions. You compare a predicted caption with the ground truth caption and "
    "give a whole number from 0 to 10 with a short explanation.\n"
    "- What counts is whether the information of the ground truth is there, and right, in the predicted caption.\n"
    "- 10: all of it is. Take points off for what is missing or wrong, in proportion to how much it matters.\n"
    "- Take nothing off for additional detail that does not contradict the ground truth, nor for wording."
)
_SCORE_USER = (
    "Predicted caption: {predicted}\nGround truth caption: {reference}\n\n"
    'Reply only with JSON of the form {{"score": <whole number from 0 to 10>, "explanation": "<short>"}}.'
)


def verdict_prompt(question: str, predicted: str, reference: str) -> JudgePrompt:
    """Is an answer right? (SGQA, ActivityNet-QA)"""
    user = _VERDICT_USER.format(question=question, predicted=predicted, reference=reference)
    return JudgePrompt(_VERDICT_SYSTEM, user, predicted, reference, "verdict")


def score_prompt(predicted: str, reference: str) -> JudgePrompt:
    """How much of a caption is in another? (RCap, RDCap)"""
    user = _SCORE_USER.format(predicted=predicted, reference=reference)
    return JudgePrompt(_SCORE_SYSTEM, user, predicted, reference, "score")
