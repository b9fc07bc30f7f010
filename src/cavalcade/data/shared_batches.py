"""Which images go through the network together, and in which process."""

from collections.abc import Iterator

import numpy as np
from torch.utils.data import DistributedSampler, Sampler

from cavalcade import processes


class SharedBatches(Sampler[list[int]]):
    """The batches of a split, or what this process has of them.

    Whatever the number of processes, the batches are those of one. In order, each process has
    some of the batches as they are, and no image is seen twice. Shuffled, it has a share of
    every batch, so that the gradients of all add up to that of the batch. All processes must
    take part in what they add up: one that would have no image has an idle batch, of the first
    image, given as -1 - index, which must not count.

    Attributes:
        sampler: of the images; Lightning tells it the epoch.
    """

    def __init__(self, num_images: int, batch_size: int, seed: int | None) -> None:
        """Plan the batches.

        Args:
            num_images: of the split.
            batch_size: images of a batch, in all processes together.
            seed: of the order, a new one each epoch; None leaves the images in order.
        """
        self.num_images, self.batch_size = num_images, batch_size
        self.shuffled = seed is not None
        self.rank, self.processes = processes.rank(), processes.count()
        self.sampler: DistributedSampler[int] = DistributedSampler(
            range(num_images),  # type: ignore[arg-type]
            num_replicas=1,  # one replica is all of it
            rank=0,
            shuffle=self.shuffled,
            # The sampler adds the epoch to its seed: next to each other, seeds would share orders.
            seed=int(np.random.SeedSequence(seed or 0).generate_state(1)[0]),
        )

    def __len__(self) -> int:
        batches = -(-self.num_images // self.batch_size)
        own = batches if self.shuffled else len(range(self.rank, batches, self.processes))
        return max(own, 1)

    def __iter__(self) -> Iterator[list[int]]:
        order = list(self.sampler)
        batches = [
            order[first : first + self.batch_size]
            for first in range(0, self.num_images, self.batch_size)
        ]
        if self.shuffled:
            shares = [batch[self.rank :: self.processes] or [-1 - batch[0]] for batch in batches]
        else:
            shares = batches[self.rank :: self.processes]
        yield from shares or [[-1 - order[0]]]
