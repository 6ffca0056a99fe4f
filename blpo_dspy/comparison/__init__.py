"""Every optimizer at equal spend, on the same data."""
