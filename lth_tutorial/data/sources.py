"""Data sets by name: the embedded digits, torchvision's downloads, and folders of images.

The digits are the book's default, part of the package and in need of no network. The others are
those of the papers. A folder of images serves for one's own, and for CIFAR-10 as files.
"""

from __future__ import annotations

import re
from importlib.resources import files
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from lth_tutorial.data.dataset import Dataset, make_dataset, permutation
from lth_tutorial.data.generated import cubist_spiral
from lth_tutorial.runtime import check_device, choose, is_whole, progress_bar
from lth_tutorial.safety.arguments import checked

DATASETS = (
    "digits", "mnist", "fashion_mnist", "cifar10", "cifar100", "cubist_spiral", "folder:PATH",
)  # fmt: skip
_TORCHVISION = {
    "mnist": "MNIST",
    "fashion_mnist": "FashionMNIST",
    "cifar10": "CIFAR10",
    "cifar100": "CIFAR100",
}
_IMAGES = {".jpg", ".jpeg", ".png", ".bmp", ".ppm", ".webp", ".tif", ".tiff"}

FINGERPRINTS = {
    "digits": "7ce34f3f582d828f6e7bdad9ba79d65fc0d59ab14cff4b1f4163203bf3b8be84",
    "mnist": "fd2bdc6784ea49ab8bd6dbeb36b181c3e507106cca76511c891cb7d600b3e3d1",
}
"""Of the known data sets, as `load_dataset` returns them by default. (CIFAR's files have checksums
that torchvision compares whenever it reads them.)"""

Splits = tuple[Tensor, Tensor, Tensor, Tensor]


@checked
def load_dataset(
    name: str,
    *,
    root: str | Path | None = None,
    download: bool = True,
    device: torch.device | str = "cpu",
    val: int | None = None,
) -> Dataset:
    """Return a data set by name, ready to train on.

    Args:
        name: "digits" (1,797 real 8×8 images, part of the package, no network needed); "mnist",
            "fashion_mnist", "cifar10" or "cifar100" (downloaded by torchvision, with its
            checksums); "cubist_spiral" or "cubist_spiral[POINTS]" (2,000 points in the plane,
            generated); or "folder:PATH" with images of one size in PATH/train/CLASS/ and
            PATH/test/CLASS/ (torchvision's ImageFolder layout).
        root: folder that holds, or will hold, the downloaded files; default
            `~/.cache/lth_tutorial`.
        download: whether missing files may be downloaded.
        device: where the tensors go.
        val: how many images to hold out of the training set, by one fixed permutation; default
            300 for digits, 5,000 otherwise, and a tenth of a folder that holds less than 50,000
            images. With 0 there are no validation figures.

    Raises:
        ValueError: for an unknown name, a device that does not work here, a `val` that leaves
            nothing to train on, or a folder that is no such data set (empty, one class, images of
            several sizes).
        FileNotFoundError: if files are missing and `download` is False, or there is no folder.
        RuntimeError: if a download fails, or what arrived has a wrong checksum.
    """
    check_device(device)
    folder = str(name).removeprefix("folder:") if str(name).startswith("folder:") else None
    spiral = re.fullmatch(r"cubist_spiral(?:\[(\d+)\])?", str(name))
    if spiral is not None:
        if val:
            raise ValueError(f"the spiral has no points to hold out; got val={val!r}")
        return cubist_spiral(int(spiral.group(1) or 2_000)).to(device)
    if folder is None:
        choose("data set", name, DATASETS)
    if name == "digits":
        x, y, x_test, y_test = _read_digits()
    elif folder is not None:
        x, y, x_test, y_test = _read_folder(Path(folder))
        name = name_of_folder(folder)
    else:
        x, y, x_test, y_test = _read_torchvision(name, root, download)
    if val is None:
        val = 300 if name == "digits" else 5_000
        val = val if folder is None else min(val, len(x) // 10)
    if not is_whole(val) or not 0 <= val < len(x):
        raise ValueError(
            f"val holds out 0 to {len(x) - 1} of the {len(x)} training images; got {val!r}"
        )
    order = permutation(len(x), "validation split", 0)
    held_out, kept = order[:val], order[val:]
    data = make_dataset(
        name, (x[kept], y[kept]), (x[held_out], y[held_out]) if val else None, (x_test, y_test)
    )
    return data.to(device)


def name_of_folder(folder: str | Path) -> str:
    """Return the name of a folder of images as a data set: a file name on every system."""
    return "folder-" + re.sub(r"[^A-Za-z0-9._-]+", "-", Path(folder).resolve().name)


def check_known(data: Dataset) -> None:
    """Raise a ValueError if a data set has the name of a known one, but other examples."""
    known = FINGERPRINTS.get(data.name)
    if known is not None and data.fingerprint != known:
        raise ValueError(
            f"these are not the examples of {data.name!r}: their fingerprint is "
            f"{data.fingerprint[:12]}…, that of {data.name} in its usual split {known[:12]}…; "
            f"load it anew (by default val), or give your data set another name"
        )


def _read_digits() -> Splits:
    with (files("lth_tutorial") / "_data" / "digits.npz").open("rb") as file:
        arrays = [*np.load(file, allow_pickle=False).values()]
    x, y, x_test, y_test = (torch.from_numpy(array) for array in arrays)
    return x, y, x_test, y_test


def _read_torchvision(name: str, root: str | Path | None, download: bool) -> Splits:
    import torchvision.datasets

    reader = getattr(torchvision.datasets, _TORCHVISION[name])
    root = Path.home() / ".cache" / "lth_tutorial" if root is None else Path(root)
    try:
        train = reader(root, train=True, download=download)
        test = reader(root, train=False, download=download)
    except (RuntimeError, OSError) as error:
        if not download:
            raise FileNotFoundError(
                f"no whole {name} files in {root}; pass download=True, the root that holds them, "
                f"or use the embedded 'digits'"
            ) from error
        raise RuntimeError(
            f"{name} could not be downloaded to {root}; pass the root of a copy, or use the "
            f"embedded 'digits'. {' '.join(str(error).split())}"
        ) from error
    (x, y), (x_test, y_test) = (_images_first(part) for part in (train, test))
    return x, y, x_test, y_test


def _images_first(part) -> tuple[Tensor, Tensor]:
    """Return images [n, channels, height, width] and labels of a torchvision data set."""
    images = torch.as_tensor(part.data)
    x = images[:, None] if images.ndim == 3 else images.permute(0, 3, 1, 2).contiguous()
    return x, torch.as_tensor(part.targets)


def _read_folder(folder: Path) -> Splits:
    if not folder.is_dir():
        raise FileNotFoundError(f"there is no folder {folder}")
    classes = {split: _class_folders(folder, split) for split in ("train", "test")}
    if classes["train"] != classes["test"]:
        odd = sorted(set(classes["train"]) ^ set(classes["test"]))
        raise ValueError(f"{folder}: train and test have different classes; only one has {odd}")
    if len(classes["train"]) < 2:
        raise ValueError(f"{folder}: one class, {classes['train']}; a classifier needs two or more")
    paths = {
        split: [(p, c) for c, name in enumerate(names) for p in _images(folder / split / name)]
        for split, names in classes.items()
    }
    total = sum(map(len, paths.values()))
    with progress_bar(total, f"reading {folder.name}") as bar:
        (x, y), (x_test, y_test) = (_decode(paths[split], bar) for split in ("train", "test"))
    if x.shape[1:] != x_test.shape[1:]:
        raise ValueError(
            f"{folder}: training images are {tuple(x.shape[1:])}, test images "
            f"{tuple(x_test.shape[1:])} (channels, height, width)"
        )
    return x, y, x_test, y_test


def _class_folders(folder: Path, split: str) -> list[str]:
    if not (folder / split).is_dir():
        raise ValueError(f"{folder} has no folder {split!r}; images belong into {split}/CLASS/")
    return sorted(path.name for path in (folder / split).iterdir() if path.is_dir())


def _images(folder: Path) -> list[Path]:
    found = sorted(path for path in folder.iterdir() if path.suffix.lower() in _IMAGES)
    if not found:
        raise ValueError(f"{folder} holds no images ({', '.join(sorted(_IMAGES))})")
    return found


def _decode(paths: list[tuple[Path, int]], bar) -> tuple[Tensor, Tensor]:
    """Return images [n, 1 or 3, height, width] as bytes: one channel if all files are grey."""
    from PIL import Image, UnidentifiedImageError

    images: np.ndarray | None = None
    all_grey = True
    for i, (path, _) in enumerate(paths):
        try:
            with Image.open(path) as image:
                if image.mode.startswith(("I", "F")):
                    raise ValueError(
                        f"{path} has more than 8 bits per pixel (mode {image.mode}), which would "
                        f"be cut off; convert the images to 8 bits first"
                    )
                all_grey &= image.mode in ("1", "L")
                pixels = np.asarray(image if image.mode == "RGB" else image.convert("RGB"))
        except (UnidentifiedImageError, OSError) as error:
            raise ValueError(f"{path} is damaged or not an image: {error}") from error
        if images is None:
            images = np.empty((len(paths), *pixels.shape), dtype=np.uint8)
        if pixels.shape != images.shape[1:]:
            raise ValueError(
                f"images of several sizes: {path} has {pixels.shape[:2]}, {paths[0][0]} "
                f"{images.shape[1:3]} (height, width); resize them first"
            )
        images[i] = pixels
        bar.update()
    x = torch.from_numpy(images).permute(0, 3, 1, 2)
    labels = torch.tensor([label for _, label in paths])
    return (x[:, :1] if all_grey else x).contiguous(), labels
