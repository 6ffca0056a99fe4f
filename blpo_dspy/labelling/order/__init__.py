"""What is labelled next, and how many labels suffice."""
