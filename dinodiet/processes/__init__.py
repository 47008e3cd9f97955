"""Several processes that are one run: what each computes of a batch, and what they tell one another."""
