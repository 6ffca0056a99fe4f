"""What a request asks for, as the embedded engine reads it."""
