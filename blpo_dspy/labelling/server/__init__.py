"""The server of a page."""
