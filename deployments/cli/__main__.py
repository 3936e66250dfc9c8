"""``python -m deployments.cli``: the program without its installed script."""

from deployments.cli.main import main

main()
