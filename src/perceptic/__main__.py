"""`python -m perceptic` is the `perceptic` command."""

from perceptic.cli.main import main

main()
