"""Align a multimodal LLM judge with human labels: bi-level prompt optimization (BLPO) for DSPy.

`__all__` is what most programs need. Everything else is imported from its sub-package: the other optimizers, `Guards`
and the records of a search from `blpo_dspy.optimizers`. Names are loaded on first use, so that importing is fast.
"""

from __future__ import annotations

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from blpo_dspy.agreement.measure import measure_agreement
    from blpo_dspy.comparison.compare import compare
    from blpo_dspy.data.columns import Columns
    from blpo_dspy.data.examples import load_examples, split_examples
    from blpo_dspy.data.labels.space import LabelSpace
    from blpo_dspy.errors import ArtifactError, BlpoError, BlpoWarning, DataError, ModelError
    from blpo_dspy.models.lm import Models, make_lm
    from blpo_dspy.optimizers import BLPO
    from blpo_dspy.predictions.predict import predict
    from blpo_dspy.predictions.ranking import rank
    from blpo_dspy.programs import Cascade, VisualJudge
    from blpo_dspy.runs.align import align
    from blpo_dspy.runs.calibration.calibrating import calibrate
    from blpo_dspy.runs.collection.drift import measure_drift
    from blpo_dspy.runs.collection.population import estimate_population
    from blpo_dspy.runs.collection.to_label import draw_to_label
    from blpo_dspy.runs.measure import measure
    from blpo_dspy.workspace.budget import Budget
    from blpo_dspy.workspace.workspace import Workspace

__version__ = "0.1.0"

__all__ = [
    "BLPO",
    "ArtifactError",
    "BlpoError",
    "BlpoWarning",
    "Budget",
    "Cascade",
    "Columns",
    "DataError",
    "LabelSpace",
    "ModelError",
    "Models",
    "VisualJudge",
    "Workspace",
    "__version__",
    "align",
    "calibrate",
    "compare",
    "draw_to_label",
    "estimate_population",
    "load_examples",
    "make_lm",
    "measure",
    "measure_agreement",
    "measure_drift",
    "predict",
    "rank",
    "split_examples",
]

_HOME = {
    "BLPO": "optimizers",
    "ArtifactError": "errors",
    "BlpoError": "errors",
    "BlpoWarning": "errors",
    "Budget": "workspace.budget",
    "Cascade": "programs",
    "Columns": "data.columns",
    "DataError": "errors",
    "LabelSpace": "data.labels.space",
    "ModelError": "errors",
    "Models": "models.lm",
    "VisualJudge": "programs",
    "Workspace": "workspace.workspace",
    "align": "runs.align",
    "calibrate": "runs.calibration.calibrating",
    "compare": "comparison.compare",
    "draw_to_label": "runs.collection.to_label",
    "estimate_population": "runs.collection.population",
    "load_examples": "data.examples",
    "make_lm": "models.lm",
    "measure": "runs.measure",
    "measure_agreement": "agreement.measure",
    "measure_drift": "runs.collection.drift",
    "predict": "predictions.predict",
    "rank": "predictions.ranking",
    "split_examples": "data.examples",
}

# LiteLLM (when imported) and DSPy (when a price is first asked for) fetch the same price list from the network; with no
# network that delays and prints warnings. Their packaged copies serve; a choice that the user has made stands.
if "LITELLM_MODEL_COST_MAP_URL" not in os.environ:
    os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")


def __getattr__(name: str) -> Any:
    """Loads a public name from its module on first use (PEP 562)."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
