"""The parts of `examples/reproduce_paper.py`: one for each of sets, methods, plan, runs, tables and plots."""
