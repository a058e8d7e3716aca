"""`python -m vitgraft`, which launchers of several processes take."""

from vitgraft.cli import main

main()
