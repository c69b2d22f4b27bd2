"""`suite plan`: what a matrix would cost, and whether it fits."""
