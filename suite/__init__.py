"""The conductor: from a matrix file to trained, scored and compared arms in runs.db."""
