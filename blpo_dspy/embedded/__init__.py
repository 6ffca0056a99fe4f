"""The offline engine and its rated photographs."""
