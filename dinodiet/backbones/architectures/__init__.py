"""Networks of our own, with the key names of their published weights."""
