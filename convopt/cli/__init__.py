"""The command line: ``convopt VERB``, one file per verb; the top floor, which nothing else imports."""

import sys

#: What `pip install convopt[cli]` adds for this package.
_EXTRA = ("typer", "rich", "click", "archspec")


def main() -> None:
    """Run the command line on sys.argv; ends the process."""
    try:
        from convopt.cli.app import app

        app()
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in _EXTRA:
            raise
        _leave(f"the command line needs {error.name}, which is missing: pip install 'convopt[cli]'", 2)
    except KeyboardInterrupt:
        _leave("interrupted", 130)


def _leave(message: str, status: int) -> None:
    print(f"convopt: {message}", file=sys.stderr)
    sys.exit(status)
