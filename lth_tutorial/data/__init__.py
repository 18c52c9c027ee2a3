"""Data sets as tensors on one device, and what may be done to them.

Every experiment of every chapter begins with a `Dataset`: read `dataset` first, it also fixes the
order in which examples are visited. `sources` loads data sets by name (the digits of the live cells
lie in the package; MNIST and CIFAR-10 are downloaded or read from a folder). `corruption` spoils
data on purpose, for the sanity checks of chapter 8; `surgery` takes one property of images away,
and `generated` makes data of its own, both for chapter 14.
"""

from lth_tutorial.data.corruption import (
    corrupt_data,
)
from lth_tutorial.data.dataset import (
    Dataset,
    batch_indices,
    make_dataset,
)
from lth_tutorial.data.generated import (
    bar_images,
    cubist_spiral,
    spiral_vertices,
)
from lth_tutorial.data.sources import (
    load_dataset,
)
from lth_tutorial.data.surgery import (
    CloneWarning,
    gaussian_clone,
    permute_pixels,
    pixel_order,
    restore_pixels,
)

__all__ = [
    "Dataset",
    "make_dataset",
    "batch_indices",
    "load_dataset",
    "corrupt_data",
    "permute_pixels",
    "pixel_order",
    "restore_pixels",
    "gaussian_clone",
    "CloneWarning",
    "cubist_spiral",
    "spiral_vertices",
    "bar_images",
]
