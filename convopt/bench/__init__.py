"""Benchmarks against other engines and reports of them: what ``convopt bench`` and ``convopt report`` do.

Bottom up: ``engines`` (one process per engine), ``race`` (runs them against each other), ``results`` (the file that is
left), ``compare`` (two such files), ``pictures`` and ``report`` (what people look at).
"""
