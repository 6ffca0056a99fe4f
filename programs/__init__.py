"""The DSPy programs: a verbalizer and a judge, chained."""
