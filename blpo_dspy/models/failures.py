"""Errors of DSPy that no further call can mend."""

from __future__ import annotations

from dspy.utils.exceptions import (
    LMAuthError,
    LMBillingError,
    LMConfigurationError,
    LMInvalidRequestError,
    LMUnexpectedError,
    LMUnsupportedFeatureError,
    LMUnsupportedModelError,
)

from blpo_dspy.errors import brief

# Errors that no further call of the run could mend: the first one ends it.
FATAL_ERRORS = (
    LMAuthError,
    LMBillingError,
    LMConfigurationError,
    LMUnexpectedError,
    LMUnsupportedFeatureError,
    LMUnsupportedModelError,
)


def no_such_model(error: LMInvalidRequestError, model: str) -> LMUnsupportedModelError:
    """Returns what a 404 means: no request of the run can be answered, whatever its image."""
    return LMUnsupportedModelError(
        f"{brief(error.message)}; the server has no such model or path: check the model's name and the server's "
        "address, which mostly ends in /v1",
        model=model,
        provider=error.provider,
        provider_code=error.provider_code,
        status=error.status,
        request_id=error.request_id,
    )
