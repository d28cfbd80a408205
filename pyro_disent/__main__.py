"""``python -m pyro_disent``, as torchrun starts it."""

from pyro_disent.cli.main import main

if __name__ == "__main__":
    main()
