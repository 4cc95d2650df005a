"""`python -m ilmari`."""

from ilmari.cli.app import main

main()
