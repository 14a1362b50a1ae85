"""``python -m nlpkit``."""

from nlpkit.cli import main

if __name__ == "__main__":
    main()
