"""Commands that judge images, and measure how well."""
