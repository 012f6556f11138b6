"""The table of verbs."""

import typer

from convopt.cli.bench import bench
from convopt.cli.cache import cache
from convopt.cli.check import check
from convopt.cli.demo import demo
from convopt.cli.explain import explain
from convopt.cli.info import info
from convopt.cli.report import report
from convopt.cli.terminal import verb
from convopt.cli.tune import tune
from convopt.cli.verify import verify

app = typer.Typer(
    name="convopt",
    help="2-D convolution on CPUs from NumPy arrays: the fastest algorithm per layer, found once and remembered.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for function in (demo, tune, explain, verify, bench, report, check, info):
    app.command()(verb(function))
app.add_typer(cache)
