"""Align a multimodal LLM judge with human labels: bi-level prompt optimization (BLPO) for DSPy."""

__version__ = "0.1.0"
