"""One file a view; each has `show`."""
