"""``pyro-disent methods``: the table of methods."""

from __future__ import annotations


def methods() -> None:
    """Every method: its equation, its weight and unit, where it comes from, and what it needs."""
    import torch
    from rich.table import Table
    from rich.text import Text

    from pyro_disent.cli.console import table_console
    from pyro_disent.models.latents import Latent
    from pyro_disent.objectives.methods import Setting
    from pyro_disent.objectives.methods import methods as table_of_methods

    example = Setting((Latent("z", 1), Latent("y", 1)), {"factor": torch.zeros(1)})
    table = Table("method", "what it does", "weight", "unit", "source", "needs")
    for method in table_of_methods().values():
        needs = [name for name, wanted in (("pairs", method.pair), ("factor labels", method.factors)) if wanted]
        term = None if method.term is None else method.term(example)
        weight, unit = ("", "") if term is None else (f"{term.default_weight:g}", term.unit)
        described = Text.assemble(method.summary, "\n", (method.equation, "dim"))
        table.add_row(method.name, described, weight, unit, method.source, ", ".join(needs))
    console = table_console()
    console.print(table)
    console.print("Join several by +: one ELBO and the weighted terms of each, as in cycle+similarity.")
