"""Choosing an algorithm: planner -> cache, measure, cost_model -> candidates, records, check -> convopt.plan and below.

Knows nothing of the public call or the command line. Layer lists of networks are in ``networks``.
"""
