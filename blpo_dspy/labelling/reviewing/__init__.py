"""Labels of a run that people look at again."""
