"""What a cell will cost and whether it fits, before anything starts."""
