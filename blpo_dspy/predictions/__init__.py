"""A judge over a folder or a table of images."""
