"""`suite run`: from the queue to places, workers and their ends."""
