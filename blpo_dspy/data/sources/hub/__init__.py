"""Files, rows and byte ranges from the Hugging Face Hub."""
