"""All that the program imports sooner or later, in a process that is forked instead of started: see `tests.forked`."""

# ruff: noqa: F401
from __future__ import annotations

import os
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"

import arviz
import matplotlib.figure
import sklearn.linear_model
import torch
import torch._dynamo
import torch.utils.tensorboard

import pyro_disent.cli.main
import pyro_disent.runs.run
import pyro_disent.training.fabric
import pyro_disent.training.train
import tests.several

torch.set_num_threads(1)
assert len([*Path("/proc/self/task").iterdir()]) == 1, "a fork has the thread that forked alone"
