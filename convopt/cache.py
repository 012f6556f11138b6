"""What is remembered of this machine between processes, as ``convopt.cache``.

``path()`` is the directory, ``load()`` reads it again, ``export(file)`` and ``merge(*files)`` carry it to and from other
machines of the same kind, ``clear()`` forgets it. More, and for people: ``convopt cache`` on the command line.
"""

from convopt.tuning.cache import clear, load, path
from convopt.tuning.exchange import export, merge

__all__ = ["clear", "export", "load", "merge", "path"]
