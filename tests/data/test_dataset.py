from __future__ import annotations

import hashlib
import os
import pickle
import struct
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import numpy as np
import pytest
import torch
from samples import blobs

import lth_tutorial as lt
from lth_tutorial.data.dataset import augment, generator_for


def test_the_embedded_digits_are_those_of_scikit_learn(digits):
    from sklearn.datasets import load_digits

    ours = torch.cat([digits.x_train, digits.x_val, digits.x_test]).flatten(1)
    labels = torch.cat([digits.y_train, digits.y_val, digits.y_test])
    theirs = load_digits()
    mine = sorted(map(tuple, torch.cat([labels[:, None], ours.long()], 1).tolist()))
    reference = torch.cat(
        [torch.tensor(theirs.target)[:, None], torch.tensor(theirs.data).long()], 1
    )
    assert mine == sorted(map(tuple, reference.tolist()))


def test_digits_have_the_declared_split_and_stay_bytes(digits):
    assert [len(digits.split(s)[0]) for s in ("train", "val", "test")] == [1000, 300, 497]
    assert digits.x_train.dtype == torch.uint8 and digits.shape == (1, 8, 8)
    assert digits.num_classes == 10


def test_normalised_training_images_have_mean_0_and_standard_deviation_1(digits):
    x = digits.normalize(digits.x_train)
    assert abs(x.mean().item()) < 1e-4 and abs(x.std().item() - 1) < 1e-3


def test_every_channel_is_normalised_by_its_own_statistics():
    x = torch.randn(200, 2, 3, 3) * torch.tensor([1.0, 9.0]).view(1, 2, 1, 1) + 5
    y = torch.arange(200) % 2
    data = lt.make_dataset("two channels", (x, y), None, (x, y))
    normal = data.normalize(x).transpose(0, 1).flatten(1)
    assert torch.allclose(normal.std(dim=1, correction=0), torch.ones(2), atol=1e-4)
    stacked = data.normalize(x.view(4, 50, 2, 3, 3))
    assert torch.equal(stacked.flatten(0, 1), data.normalize(x))


@pytest.mark.parametrize("unit", [1e-20, 1e-8, 1.0, 1e8])
def test_numbers_in_any_unit_are_normalised_and_what_rounding_leaves_is_not(unit):
    x = torch.stack([torch.randn(900, 4), torch.full((900, 4), 0.1)], dim=1) * unit
    y = torch.arange(900) % 3
    data = lt.make_dataset("units", (x, y), None, (x, y))
    seen = data.normalize(x)
    assert seen[:, 0].std().item() == pytest.approx(1, rel=1e-3)
    assert data.std[1] == 1 and bool((seen[:, 1].abs() <= 1e-6 * unit).all())


def test_a_constant_channel_becomes_zero_not_infinite():
    x, y = torch.ones(10, 1), torch.arange(10) % 2
    data = lt.make_dataset("constant", (x, y), None, (x, y))
    assert data.normalize(x).abs().max() == 0


def test_without_held_out_images_validation_is_absent_and_never_the_test_set():
    data = lt.load_dataset("digits", val=0)
    assert len(data.x_train) == 1300 and len(data.x_val) == 0
    with pytest.raises(ValueError, match="no val examples"):
        data.split("val")


def test_a_subset_is_drawn_from_the_training_images_only(digits):
    part = digits.subset(100, seed=3)
    assert len(part.x_train) == 100 and torch.equal(part.x_test, digits.x_test)
    rows = {tuple(r) for r in digits.x_train.flatten(1).tolist()}
    assert all(tuple(r) in rows for r in part.x_train.flatten(1).tolist())
    assert torch.equal(part.mean, digits.mean)
    for n in (1001, 0, 10.5):
        with pytest.raises(ValueError, match="1 to 1000"):
            digits.subset(n)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"val": 1300}, "0 to 1299"),
        ({"val": -1}, "got -1"),
        ({"val": 0.2}, "got 0.2"),
        ({"name": "digit"}, "Did you mean 'digits'"),
        ({"name": "mnist", "root": "nowhere", "download": False}, "download=True"),
    ],
)
def test_load_dataset_says_what_would_work(change, message, tmp_path):
    options = {"name": "digits", **change}
    if "root" in options:
        options["root"] = tmp_path / options["root"]
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        lt.load_dataset(options.pop("name"), **options)


def nan_first(x):
    x = x.clone()
    x[0, 0] = float("nan")
    return x


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda x, y: (nan_first(x), y), "1 of 60 test examples contain NaN"),
        (lambda x, y: (x, y + 1), "test labels lie in 1 … 3"),
        (lambda x, y: (x, y - 1), "test labels lie in -1"),
        (lambda x, y: (x, y.float()), "whole numbers"),
        (lambda x, y: (x[:5], y), "5 examples and labels of shape"),
        (lambda x, y: (x[:, :3], y), r"test examples are \(3,\)"),
        (lambda x, y: (x[:0], y[:0]), "the test set is empty"),
        (lambda x, y: (x[:, 0], y), "channel dimension"),
    ],
)
def test_tensors_that_do_not_make_a_data_set_are_refused(spoil, message):
    with pytest.raises(ValueError, match=message):
        lt.make_dataset("mine", blobs(120, 1), None, spoil(*blobs(60, 3)))


def test_arrays_are_refused_with_what_to_do():
    x, y = blobs(60, 3)
    with pytest.raises(TypeError, match=r"Tensor; got \(array.*torch.as_tensor"):
        lt.make_dataset("mine", (x.numpy(), y.numpy()), None, (x, y))


def test_an_epoch_visits_every_example_once_and_each_epoch_differs():
    epochs = [
        torch.cat([lt.batch_indices(12, 4, step, 0) for step in range(3 * e, 3 * e + 3)])
        for e in range(2)
    ]
    assert all(sorted(e.tolist()) == list(range(12)) for e in epochs)
    assert not torch.equal(*epochs)


def test_the_batch_is_a_pure_function_of_data_seed_and_step():
    before = lt.batch_indices(100, 10, 57, 3)
    torch.manual_seed(0)
    lt.batch_indices(100, 10, 0, 4)
    assert torch.equal(before, lt.batch_indices(100, 10, 57, 3))
    assert not torch.equal(before, lt.batch_indices(100, 10, 57, 4))


def test_seeds_are_mixed_not_added():
    keys = [("a", 1, 2), ("a", 2, 1), ("a", 3), ("a", 3, 0), ("a", 3, 0, 0), ("b", 3)]
    assert len({generator_for(*key).initial_seed() for key in keys}) == len(keys)


@pytest.mark.parametrize("seed", [-1, 1.5, None, True])
def test_a_seed_that_is_none_is_refused(seed):
    with pytest.raises(ValueError, match="whole number of at least 0; got"):
        lt.build_model("mlp_5", seed=seed)
    with pytest.raises(ValueError, match=f"at least 0; got {seed!r} for a thing"):
        generator_for("a thing", 3, seed)


def test_a_batch_belongs_to_the_caller():
    first = lt.batch_indices(100, 10, 0, 5)
    first += 1
    assert torch.equal(lt.batch_indices(100, 10, 0, 5), first - 1)
    with pytest.raises(ValueError, match="1 … 10"):
        lt.batch_indices(10, 20, 0, 0)


def test_augmentation_only_shifts_and_mirrors():
    x = torch.zeros(64, 1, 9, 9)
    x[:, 0, 4, 4] = 1
    moved = augment(x, step=0, data_seed=0, pad=2)
    assert moved.shape == x.shape and moved.sum() == 64
    rows, columns = moved[:, 0].flatten(1).argmax(1) // 9, moved[:, 0].flatten(1).argmax(1) % 9
    assert set(rows.tolist()) == set(columns.tolist()) == {2, 3, 4, 5, 6}
    assert torch.equal(moved, augment(x, step=0, data_seed=0, pad=2))
    assert not torch.equal(moved, augment(x, step=1, data_seed=0, pad=2))


def test_augmentation_mirrors_about_half_of_the_images():
    x = torch.zeros(400, 1, 5, 5)
    x[:, 0, :, 0] = 1
    left = augment(x, 0, 0, pad=0)[:, 0, 0, 0].sum().item()
    assert 140 < left < 260 and left + augment(x, 0, 0, pad=0)[:, 0, 0, 4].sum().item() == 400


def write_idx(path, array):
    header = struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
    path.write_bytes(header + array.numpy().tobytes())


@pytest.mark.parametrize(
    ("name", "folder"), [("mnist", "MNIST"), ("fashion_mnist", "FashionMNIST")]
)
def test_mnist_and_its_kind_are_read_from_files_in_the_original_format(tmp_path, name, folder):
    raw = tmp_path / folder / "raw"
    raw.mkdir(parents=True)
    for stem, n in (("train", 6000), ("t10k", 20)):
        images = torch.randint(0, 256, (n, 28, 28), dtype=torch.uint8)
        write_idx(raw / f"{stem}-images-idx3-ubyte", images)
        write_idx(raw / f"{stem}-labels-idx1-ubyte", (torch.arange(n) % 10).to(torch.uint8))
    data = lt.load_dataset(name, root=tmp_path, download=False)
    assert data.name == name
    assert data.shape == (1, 28, 28) and data.x_train.dtype == torch.uint8
    assert [len(data.split(s)[0]) for s in ("train", "val", "test")] == [1000, 5000, 20]
    assert torch.equal(data.x_test[:, 0], images)


def test_the_real_mnist_where_it_is_at_hand():
    """Set LTH_TUTORIAL_DATA to a folder with MNIST/raw; without it the small files above serve."""
    root = os.environ.get("LTH_TUTORIAL_DATA", "")
    if not (Path(root) / "MNIST" / "raw").is_dir() or not root:
        pytest.skip("LTH_TUTORIAL_DATA names no folder with MNIST")
    data = lt.load_dataset("mnist", root=root, download=False)
    assert [len(data.split(s)[0]) for s in ("train", "val", "test")] == [55_000, 5_000, 10_000]
    assert data.mean.item() / 255 == pytest.approx(0.1307, abs=5e-4)
    assert data.std.item() / 255 == pytest.approx(0.3081, abs=5e-4)
    assert data.y_test[:5].tolist() == [7, 2, 1, 0, 4]


def write_cifar(folder, files, key, meta, monkeypatch, reader):
    """Write batches as torchvision's CIFAR reader finds them: pickled dictionaries, checksummed."""
    folder.mkdir(parents=True)
    generator = np.random.default_rng(0)
    entries = {}
    for name, n in files.items():
        pixels = generator.integers(0, 256, (n, 3072), dtype=np.uint8)
        labels = [i % 10 for i in range(n)]
        (folder / name).write_bytes(pickle.dumps({"data": pixels, key: labels}))
        entries[name] = hashlib.md5((folder / name).read_bytes()).hexdigest()
        last = pixels.reshape(n, 3, 32, 32)
    (folder / meta["filename"]).write_bytes(pickle.dumps({meta["key"]: list("abcdefghij")}))
    checksum = hashlib.md5((folder / meta["filename"]).read_bytes()).hexdigest()
    pairs = list(entries.items())
    monkeypatch.setattr(reader, "train_list", [list(p) for p in pairs[:-1]])
    monkeypatch.setattr(reader, "test_list", [list(pairs[-1])])
    monkeypatch.setattr(reader, "meta", meta | {"md5": checksum})
    return torch.from_numpy(last)


def test_cifar_is_read_from_batches_in_the_original_format(tmp_path, monkeypatch):
    from torchvision.datasets import CIFAR10, CIFAR100

    files = {f"data_batch_{i}": 20 for i in range(1, 6)} | {"test_batch": 30}
    test = write_cifar(
        tmp_path / "cifar-10-batches-py", files, "labels", dict(CIFAR10.meta), monkeypatch, CIFAR10
    )
    data = lt.load_dataset("cifar10", root=tmp_path, download=False, val=10)
    assert data.shape == (3, 32, 32) and data.x_train.dtype == torch.uint8
    assert len(data.x_train) == 90 and torch.equal(data.x_test, test)
    assert data.mean.shape == (3,)
    files = {"train": 60, "test": 20}
    meta = dict(CIFAR100.meta)
    test = write_cifar(
        tmp_path / "cifar-100-python", files, "fine_labels", meta, monkeypatch, CIFAR100
    )
    hundred = lt.load_dataset("cifar100", root=tmp_path, download=False, val=0)
    assert len(hundred.x_train) == 60 and torch.equal(hundred.x_test, test)
    broken = tmp_path / "cifar-100-python" / "train"
    broken.write_bytes(broken.read_bytes()[:-1] + b"x")
    with pytest.raises(FileNotFoundError, match="no whole cifar100 files"):
        lt.load_dataset("cifar100", root=tmp_path, download=False)


def write_folder(root, sizes=((8, 6),), mode="RGB", classes=("cat", "dog"), n=12, suffix="png"):
    from PIL import Image

    for split in ("train", "test"):
        for c, name in enumerate(classes):
            (root / split / name).mkdir(parents=True)
            for i in range(n):
                size = sizes[i % len(sizes)]
                colour = 40 * c + i if mode == "L" else (40 * c + i, 7, 200)
                Image.new(mode, size, colour).save(root / split / name / f"{i:03}.{suffix}")


def test_a_folder_of_images_becomes_a_data_set(tmp_path):
    write_folder(tmp_path / "pets")
    data = lt.load_dataset(f"folder:{tmp_path / 'pets'}")
    assert data.name == "folder-pets" and data.shape == (3, 6, 8) and data.num_classes == 2
    assert [len(data.split(s)[0]) for s in ("train", "val", "test")] == [22, 2, 24]
    for x, y in zip(data.x_test, data.y_test, strict=True):
        red, green, blue = x[:, 0, 0].tolist()
        assert (green, blue) == (7, 200) and red // 40 == y


def test_grey_images_have_one_channel(tmp_path):
    write_folder(tmp_path / "grey", mode="L")
    assert lt.load_dataset(f"folder:{tmp_path / 'grey'}").shape == (1, 6, 8)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda p: write_folder(p, sizes=((8, 6), (9, 6))), "several sizes.*resize them first"),
        (lambda p: write_folder(p, classes=("cat",)), "one class"),
        (lambda p: write_folder(p, n=0), "holds no images"),
        (lambda p: (p / "train").mkdir(parents=True), "no folder 'test'"),
        (lambda p: (p / "cat").mkdir(parents=True), "no folder 'train'"),
        (lambda p: (write_folder(p), (p / "test" / "fox").mkdir()), r"only one has \['fox'\]"),
        (
            lambda p: (write_folder(p), (p / "train" / "cat" / "003.png").write_bytes(b"png")),
            "003.png is damaged or not an image",
        ),
        (lambda p: None, "there is no folder"),
    ],
)
def test_a_folder_that_is_no_data_set_is_refused(tmp_path, make, message):
    make(tmp_path / "pets")
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        lt.load_dataset(f"folder:{tmp_path / 'pets'}")


def test_a_download_with_a_wrong_checksum_is_refused(tmp_path, monkeypatch):
    """torchvision checks what it fetched: a mirror that serves other bytes is an error."""
    from torchvision.datasets import MNIST

    class Mirror(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Length", "9")
            self.end_headers()
            self.wfile.write(b"not MNIST")

        def log_message(self, *arguments):
            pass

    server = HTTPServer(("127.0.0.1", 0), Mirror)
    Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setattr(MNIST, "mirrors", [f"http://127.0.0.1:{server.server_port}/"])
    with pytest.raises(RuntimeError, match="not found or corrupted"):
        lt.load_dataset("mnist", root=tmp_path)
    server.shutdown()
    server.server_close()
    assert not list(tmp_path.rglob("*ubyte"))


def test_examples_of_odd_kinds_are_refused_and_computed_ones_are_constants():
    x, y = torch.rand(8, 4), torch.arange(8) % 2
    for odd, message in (
        (x.to_sparse(), "dense tensors; got torch.sparse_coo"),
        (x.to("meta"), "got on no device"),
        (x.to(torch.float8_e4m3fn), "got torch.float8_e4m3fn"),
    ):
        with pytest.raises(ValueError, match=message):
            labels = y.to(odd.device)
            lt.make_dataset("odd", (odd, labels), None, (odd, labels))
    data = lt.make_dataset("a", (x.requires_grad_() * 2, y), None, (x, y))
    assert not any(t.requires_grad for t in (data.x_train, data.x_test, data.mean, data.std))
    model = lt.build_model("mlp_4", seed=0, data=data)
    assert lt.train(model, data, lt.TrainConfig(steps=3, batch_size=4)).steps == 3


@pytest.mark.parametrize(
    "kind", [torch.int16, torch.int32, torch.int64, torch.uint16, torch.uint32]
)
def test_whole_numbers_wider_than_a_byte_are_tokens_signed_or_not(kind):
    class Net(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.words, self.out = torch.nn.Embedding(10, 8), torch.nn.Linear(8, 3)

        def forward(self, x):
            return self.out(self.words(x.long()).mean(dim=1))

    x, y = torch.randint(0, 10, (30, 6)), torch.arange(30) % 3
    same, data = (lt.make_dataset("text", (t, y), None, (t, y)) for t in (x, x.to(kind)))
    assert torch.equal(data.normalize(data.x_test).long(), x)
    model, config = Net(), lt.TrainConfig(steps=3, batch_size=10)
    assert lt.evaluate(model, data) == lt.evaluate(model, same)
    assert lt.train(model, data, config).steps == 3
