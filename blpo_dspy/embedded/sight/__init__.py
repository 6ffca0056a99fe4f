"""What the embedded engine measures of an image."""
