"""Align a multimodal LLM judge with human labels: bi-level prompt optimization (BLPO) for DSPy.

The public names are loaded on first use, so that importing the package costs next to nothing.
"""

from __future__ import annotations

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from blpo_dspy.agreement.measure import Agreement, measure_agreement
    from blpo_dspy.calls.budget import Budget
    from blpo_dspy.comparison.compare import Comparison, compare
    from blpo_dspy.data.examples import load_examples, split_examples
    from blpo_dspy.data.images.prepare import PixelPolicy
    from blpo_dspy.data.labels.space import LabelSpace
    from blpo_dspy.data.sources import open_source
    from blpo_dspy.embedded.engine import embedded_lm
    from blpo_dspy.errors import ArtifactError, BlpoError, DataError, ModelError
    from blpo_dspy.models.lm import Models, make_lm
    from blpo_dspy.optimizers import BLPO, BLPOResult, Round, Trial
    from blpo_dspy.optimizers.estimate import Estimate, estimate
    from blpo_dspy.optimizers.proposals.guards import Guards
    from blpo_dspy.predictions.predict import predict
    from blpo_dspy.programs import VisualJudge

__version__ = "0.1.0"

__all__ = [
    "BLPO",
    "Agreement",
    "ArtifactError",
    "BLPOResult",
    "BlpoError",
    "Budget",
    "Comparison",
    "DataError",
    "Estimate",
    "Guards",
    "LabelSpace",
    "ModelError",
    "Models",
    "PixelPolicy",
    "Round",
    "Trial",
    "VisualJudge",
    "__version__",
    "compare",
    "embedded_lm",
    "estimate",
    "load_examples",
    "make_lm",
    "measure_agreement",
    "open_source",
    "predict",
    "split_examples",
]

_HOME = {
    "BLPO": "optimizers",
    "Agreement": "agreement.measure",
    "ArtifactError": "errors",
    "BLPOResult": "optimizers",
    "BlpoError": "errors",
    "Budget": "calls.budget",
    "Comparison": "comparison.compare",
    "DataError": "errors",
    "Estimate": "optimizers.estimate",
    "Guards": "optimizers.proposals.guards",
    "LabelSpace": "data.labels.space",
    "ModelError": "errors",
    "Models": "models.lm",
    "PixelPolicy": "data.images.prepare",
    "Round": "optimizers",
    "Trial": "optimizers",
    "VisualJudge": "programs",
    "compare": "comparison.compare",
    "embedded_lm": "embedded.engine",
    "estimate": "optimizers.estimate",
    "load_examples": "data.examples",
    "make_lm": "models.lm",
    "measure_agreement": "agreement.measure",
    "open_source": "data.sources",
    "predict": "predictions.predict",
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
