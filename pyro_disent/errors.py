"""The two ways a run can be stopped by the world around it; the command line turns them into exit codes."""


class InputError(ValueError):
    """Bad input: one sentence that says what was wrong, where, and what is accepted. Exit code 2."""


class Diverged(ArithmeticError):
    """Training met a value that is not finite: the site, the step and the last finite values. Exit code 3."""


class StorageError(OSError):
    """The disk failed while a run was being written; the last good checkpoint is kept. Exit code 4."""
