"""`python -m lathe`: the `lathe` command."""

from lathe.cli import main

main()
