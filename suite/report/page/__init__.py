"""`suite results`: a whole comparison as one page."""
