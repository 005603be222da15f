"""What lmms-eval finds under the entry point `lmms_eval.models`: our models by the id `perceptic`.

python -m lmms_eval --model perceptic --model_args pretrained=Perception-LM-1B --tasks pope --batch_size 8
"""

from __future__ import annotations

from typing import Any

MODEL_ID = "perceptic"
_CLASS_PATH = "perceptic.integrations.lmms_eval_model.PercepticLMM"


def manifests() -> Any:
    """The manifest; lmms-eval imports the class when the model is asked for."""
    from lmms_eval.models.registry_v2 import ModelManifest

    return ModelManifest(model_id=MODEL_ID, simple_class_path=_CLASS_PATH, aliases=("perceptic-plm",))
