"""Errors of DSPy that no further call can mend."""

from __future__ import annotations

from dspy.utils.exceptions import (
    LMAuthError,
    LMBillingError,
    LMConfigurationError,
    LMUnexpectedError,
    LMUnsupportedFeatureError,
    LMUnsupportedModelError,
)

# Errors that no further call of the run could mend: the first one ends it.
FATAL_ERRORS = (
    LMAuthError,
    LMBillingError,
    LMConfigurationError,
    LMUnexpectedError,
    LMUnsupportedFeatureError,
    LMUnsupportedModelError,
)
