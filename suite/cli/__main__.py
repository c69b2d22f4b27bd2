"""`python -m suite.cli`: the command line without its installed entry point."""

from suite.cli.app import main

main()
