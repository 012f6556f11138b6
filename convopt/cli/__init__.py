"""The command line: ``convopt VERB``, one file per verb; the top floor, which nothing else imports."""

import sys

#: What `pip install convopt[cli]` adds for this package.
_EXTRA = ("typer", "rich", "click", "archspec")


def main() -> None:
    """Run the command line on sys.argv; ends the process."""
    try:
        from convopt.cli.app import app
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in _EXTRA:
            raise
        print(f"convopt: the command line needs {error.name}, which is missing: pip install 'convopt[cli]'", file=sys.stderr)
        sys.exit(2)
    app()
