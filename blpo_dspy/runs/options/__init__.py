"""What a user asks of a run: options as fields, and the text that states them."""
