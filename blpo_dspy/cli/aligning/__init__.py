"""Commands that align a judge, and show how that went."""
