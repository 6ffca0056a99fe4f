"""People label images and review labels on a local page; every answer is on disk before the page moves on."""
