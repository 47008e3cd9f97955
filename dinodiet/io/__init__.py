"""Files, locks, transfers, assets and the machine. Nothing here is about training."""
