"""What is checked before and after a search, and what it costs."""
