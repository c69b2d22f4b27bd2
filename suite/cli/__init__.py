"""`suite`: the commands parse, call one function and print."""
