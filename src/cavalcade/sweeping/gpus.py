"""Which GPU a job of a sweep gets where several run at once on one machine."""

from collections.abc import Mapping, Sequence

VISIBLE = "CUDA_VISIBLE_DEVICES"


def visible_gpus(environ: Mapping[str, str], count: int) -> list[str]:
    """The GPUs of this machine that a program may use, as `CUDA_VISIBLE_DEVICES` names them.

    Args:
        environ: of the program.
        count: how many CUDA finds.

    >>> visible_gpus({}, 2), visible_gpus({"CUDA_VISIBLE_DEVICES": "3,5,7"}, 3)
    (['0', '1'], ['3', '5', '7'])
    """
    if VISIBLE not in environ:
        return [str(number) for number in range(count)]
    return [name.strip() for name in environ[VISIBLE].split(",") if name.strip()][:count]


def gpus_of_job(number: int, gpus: Sequence[str], *, single: bool) -> list[str]:
    """The GPUs of a job: in turn one for each if it runs on a single device, else all.

    More jobs than GPUs share them.

    >>> [gpus_of_job(number, ["0", "1"], single=True) for number in range(3)]
    [['0'], ['1'], ['0']]
    """
    return [gpus[number % len(gpus)]] if single and gpus else list(gpus)
