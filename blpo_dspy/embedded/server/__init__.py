"""The embedded engine as an OpenAI-compatible endpoint on loopback."""
