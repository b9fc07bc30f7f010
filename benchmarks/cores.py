"""Keeps a process to some cores, so that both sides of a comparison have as many."""

import os

import torch
from threadpoolctl import threadpool_limits


def keep_to(cores: int = 1) -> None:
    """Have this process use no more cores from now on, whoever's threads they are.

    Those of torch, of linear algebra and of OpenMP are that many. Where the system can say which
    cores a process has, it is given the first ones alone, since some work has a thread for each
    of them. Libraries that bring threads of their own have to be imported before.
    """
    torch.set_num_threads(cores)
    threadpool_limits(cores)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:cores])
