"""`python -m vitgraft.cli`: the command line without the installed script."""

from vitgraft.cli import main

main()
