"""Records: statistics of a run while it trains, one module a record, and their arithmetic."""
