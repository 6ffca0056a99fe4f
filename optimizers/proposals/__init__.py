"""Instructions that an optimizer LM proposes, and the checks that they pass."""
