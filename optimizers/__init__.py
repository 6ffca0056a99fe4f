"""The teleprompters."""
