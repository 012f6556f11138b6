"""``python -m convopt.cli``."""

from convopt.cli import main

if __name__ == "__main__":
    main()
