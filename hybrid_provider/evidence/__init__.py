"""The append-only, hash-chained record of transfers and activations."""
