"""Errors of DSPy that no further call can mend."""

from __future__ import annotations

from dspy.utils import exceptions as dspys

# Errors that no further call of the run could mend: the first one ends it.
FATAL_ERRORS = (
    dspys.LMAuthError,
    dspys.LMBillingError,
    dspys.LMConfigurationError,
    dspys.LMUnexpectedError,
    dspys.LMUnsupportedFeatureError,
    dspys.LMUnsupportedModelError,
)
