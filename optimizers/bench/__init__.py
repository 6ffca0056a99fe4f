"""Where candidates are run and scored."""
