"""Files, locks, transfers and the machine: what every part needs and none of it is about training."""
