"""A problem by the name it has in the cache, which says everything that else the options beside a layer say."""

from convopt.errors import ShapeError
from convopt.tuning.planner import Request


def problem_of(words: list[str], **options: object) -> Request | None:
    """The problem whose key the only word is; None where the words are no key, but perhaps a layer's.

    options: those a key leaves nothing to say to, by their names, falsy where not given. Raises ShapeError if one is given
    beside a key.
    """
    if len(words) != 1 or not Request.is_key(words[0]):
        return None
    given = [f"--{name.replace('_', '-')}" for name, value in options.items() if value]
    if given:
        raise ShapeError(f"{given[0]} is given; the key {words[0]} already says what it would")
    return Request.parse(words[0])
