"""What to do where a provider refuses a key, or there is none for it."""

from __future__ import annotations

from dspy.utils.exceptions import LMAuthError, LMError, LMNotConfiguredError

# Providers whose variables are not NAME_API_KEY.
_SETTINGS = {
    "azure": "AZURE_API_KEY, AZURE_API_BASE and AZURE_API_VERSION",
    "bedrock": "what the AWS command line takes (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_REGION_NAME)",
}
_BY_NAME = ("anthropic", "deepseek", "gemini", "groq", "hosted_vllm", "mistral", "openai", "openrouter", "xai")

CREDENTIAL_ERRORS = (LMAuthError, LMNotConfiguredError)


def told(error: LMError, model: str) -> str:
    """Returns an error over a key or other setting in a line, with what to export for this model's provider."""
    line, *_ = str(error).splitlines()
    provider = model.partition("/")[0]
    settings = _SETTINGS.get(provider) or (f"{provider.upper()}_API_KEY" if provider in _BY_NAME else None)
    if settings is None:
        return line
    if isinstance(error, LMNotConfiguredError):  # the rest names settings of DSPy's, of which there are others
        line = line.partition("; ")[0].partition(". ")[0]
    valid = " with what it accepts" if isinstance(error, LMAuthError) else ""
    return f"{line.rstrip('.')}. Export {settings}{valid}."
