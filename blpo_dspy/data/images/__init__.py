"""Images as they are sent to a model."""
