"""The optimizers that BLPO is compared with."""
