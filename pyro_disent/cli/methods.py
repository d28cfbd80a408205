"""``pyro-disent methods``: the table of methods."""

from __future__ import annotations


def methods() -> None:
    """Every method: its equation, its weight and unit, where it comes from, and what it needs."""
    from rich.table import Table
    from rich.text import Text

    from pyro_disent.cli.console import table_console
    from pyro_disent.cli.sentences import as_flags
    from pyro_disent.objectives.methods import methods as table_of_methods

    table = Table("method", "what it does", "weight", "unit", "source", "needs")
    for method in table_of_methods().values():
        needs = [name for name, wanted in (("pairs", method.pair), ("factor labels", method.factors)) if wanted]
        weight, unit = ("", "") if method.term is None else (f"{method.term.default_weight:g}", method.term.unit)
        options = [f"--term {method.term_name}.{option}" for option in (method.options or {}).values()]
        described = Text.assemble(
            method.summary, "\n", (as_flags(method.equation), "dim"), *(f"\n{each}" for each in options)
        )
        table.add_row(method.name, described, weight, unit, method.source, ", ".join(needs))
    console = table_console()
    console.print(table)
    console.print("Join several by +: one ELBO and the weighted terms of each, as in cycle+similarity.")
