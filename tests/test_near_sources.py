"""What is nearly a data set is read where that is safe, and else said; advice on pixels never makes them worse."""

from __future__ import annotations

import gzip
import logging
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from pyro_disent.cli.data import list_data
from pyro_disent.data import registry
from pyro_disent.data.chairs import rendered as rendered_chairs
from pyro_disent.data.faces import celeba
from pyro_disent.data.faces import files as celeba_files
from pyro_disent.data.faces.drawn.faces import ATTRIBUTES
from pyro_disent.data.mnist import files as mnist
from pyro_disent.data.mnist import rotated as rotated_mnist
from pyro_disent.data.own import arrays
from pyro_disent.data.sources import Request
from pyro_disent.errors import InputError
from pyro_disent.pixels import how_to_scale
from tests.celeba_files import HAS, NAMES, PARTITION, PICTURES, TINY, check_is_the_tiny_set, write, write_zip
from tests.mnist_files import idx, write_mnist

pytestmark = pytest.mark.usefixtures("elsewhere")

SPELLED = {
    "as published": "{split}-{kind}-idx{axes}-ubyte",
    "a dot": "{split}-{kind}.idx{axes}-ubyte",
    "underscores": "{split}_{kind}_idx{axes}_ubyte",
    "capitals": "{split}-{kind}-IDX{axes}-UBYTE",
    "a folder of its own": "{split}-{kind}-idx{axes}-ubyte/{split}-{kind}-idx{axes}-ubyte",
}


def spell(raw: Path, spelled: str, packed: bool) -> None:
    """Rename the files that `write_mnist` wrote."""
    for path in sorted(raw.iterdir()):
        split, kind, numbers, *_ = path.name.removesuffix(".gz").split("-")
        new = raw / (spelled.format(split=split, kind=kind, axes=numbers[-1]) + ".gz" * packed)
        content = path.read_bytes()
        path.unlink()
        new.parent.mkdir(exist_ok=True)
        new.write_bytes(content)


class TestMNIST:
    @pytest.mark.parametrize("packed", [False, True])
    @pytest.mark.parametrize("spelled", SPELLED.values(), ids=SPELLED)
    def test_every_spelling_is_the_same_set(
        self, spelled: str, packed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        published = mnist.read(Request("auto", write_mnist(tmp_path / "published")))
        raw = write_mnist(tmp_path / "named" / "x", packed)
        spell(raw, spelled, packed)
        monkeypatch.setenv("PYRO_DISENT_DATA", str(raw))
        found = mnist.read(Request())
        assert found.source.kind == "local" and found.source.location == str(raw)
        assert torch.equal(found.train.images, published.train.images)
        assert torch.equal(found.test.labels, published.test.labels)
        path = mnist.prepare(Request())
        assert sorted(each.name for each in path.iterdir()) == sorted(mnist.FILES)

    @pytest.mark.parametrize(
        "below", ["mnist", "MNIST", "mnist/raw", "Mnist/raw", "mnist-dataset", "MNIST_data", "mnist_digits/raw"]
    )
    def test_it_may_lie_deeper(self, below: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        raw = write_mnist(tmp_path / below)
        spell(raw, SPELLED["a dot"], packed=False)
        monkeypatch.setenv("PYRO_DISENT_DATA", str(tmp_path))
        assert mnist.read(Request()).source.location == str(raw)

    @pytest.mark.parametrize("other", ["FashionMNIST/raw", "KMNIST/raw", "EMNIST/raw", "fashion-mnist"])
    def test_sets_with_files_of_the_same_names_are_others(
        self, other: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        write_mnist(tmp_path / other)
        monkeypatch.setenv("PYRO_DISENT_DATA", str(tmp_path))
        assert mnist.read(Request()).source.kind == "embedded"
        assert "holds no MNIST" in caplog.text

    def test_other_digits_of_the_same_number_are_said(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        tmp_path.joinpath("raw").mkdir()
        for split, count in (("train", 60_000), ("t10k", 10_000)):
            for kind, values in (
                ("images-idx3", np.zeros((count, 28, 28), np.uint8)),
                ("labels-idx1", np.zeros(count, np.uint8)),
            ):
                packed = gzip.compress(idx(values), compresslevel=1)
                (tmp_path / "raw" / f"{split}-{kind}-ubyte.gz").write_bytes(packed)
        unpacked = [mnist.read_idx(tmp_path / "raw" / f"{name}.gz") for name in mnist.FILES]
        assert len(mnist.read(Request("auto", tmp_path)).train.images) == 55_000
        assert "other images: Fashion-MNIST has too" in caplog.text
        caplog.clear()
        monkeypatch.setattr(mnist, "SHA256", mnist._sha256_unpacked(unpacked))
        mnist.read(Request("auto", tmp_path))
        assert caplog.text == ""
        for name in mnist.FILES:
            (tmp_path / name).write_bytes(gzip.decompress((tmp_path / "raw" / f"{name}.gz").read_bytes()))
        assert mnist._sha256(tmp_path) == mnist.SHA256

    def test_a_damaged_file_is_no_reason_to_look_elsewhere(self, tmp_path: Path) -> None:
        raw = write_mnist(tmp_path / "raw")
        spell(raw, SPELLED["a dot"], packed=False)
        (raw / "t10k-images.idx3-ubyte").write_bytes(b"0" * 100)
        with pytest.raises(InputError, match=r"t10k-images.idx3-ubyte is no IDX file of images"):
            mnist.read(Request("auto", tmp_path))
        (raw / "t10k-images.idx3-ubyte").unlink()
        with pytest.raises(InputError, match="t10k-images-idx3-ubyte is missing"):
            mnist.read(Request("auto", tmp_path))


def as_kaggle_has_it(root: Path) -> Path:
    """The lists as CSV and the images one folder further down."""
    root.mkdir(parents=True)
    rows = (",".join([name, *np.where(row, "1", "-1")]) for name, row in zip(NAMES, HAS, strict=True))
    (root / "list_attr_celeba.csv").write_text("\n".join([",".join(["image_id", *ATTRIBUTES]), *rows]))
    splits = (f"{name},{place}" for name, place in zip(NAMES, PARTITION, strict=True))
    (root / "list_eval_partition.csv").write_text("\n".join(["image_id,partition", *splits]))
    (root / "img_align_celeba" / "img_align_celeba").mkdir(parents=True)
    for name, content in PICTURES.items():
        (root / "img_align_celeba" / "img_align_celeba" / name).write_bytes(content)
    return root


def as_its_authors_have_it(root: Path) -> Path:
    folder = write(root)
    for name, below in {**dict.fromkeys(("list_attr_celeba.txt",), "Anno"), "list_eval_partition.txt": "Eval"}.items():
        (folder / below).mkdir()
        (folder / name).rename(folder / below / name)
    (folder / "Img").mkdir()
    (folder / "img_align_celeba").rename(folder / "Img" / "img_align_celeba")
    return folder


def with_a_nested_zip(root: Path) -> Path:
    folder = write(root, packed=True)
    write_zip(folder / "img_align_celeba.zip", {f"img_align_celeba/{name}": each for name, each in PICTURES.items()})
    return folder


class TestCelebA:
    @pytest.mark.parametrize("layout", [as_kaggle_has_it, as_its_authors_have_it, with_a_nested_zip])
    @pytest.mark.parametrize("below", [".", "celeba", "CelebA", "celeba-dataset"])
    def test_other_layouts_are_the_same_set(
        self, layout, below: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        folder = layout(tmp_path / "named" / below)
        monkeypatch.setenv("PYRO_DISENT_DATA", str(tmp_path / "named"))
        data = celeba.load(Request())
        assert data.source.kind == "local" and Path(data.source.location) == folder
        check_is_the_tiny_set(data)
        # A run finds it again by what it recorded.
        assert celeba.load(Request("local", Path(data.source.location))).source == data.source

    @pytest.mark.parametrize(
        ("change", "says"),
        [
            (lambda text: text.replace("Smiling", "Grinning"), "line 1: these are not CelebA's attributes"),
            (lambda text: text.replace(",-1", ",0", 1), r"line 2: .* is '0'; accepted are 1 and -1"),
            (lambda text: text + "\n000001.jpg" + ",1" * 40, "000001.jpg is listed again, after line 2"),
            (lambda text: text + "\n1.jpg" + ",1" * 40, "'1.jpg' is not named as CelebA's images are"),
            (lambda text: text + "\n000099.jpg,1", "000099.jpg has 1 values for 40 attributes"),
        ],
    )
    def test_a_csv_that_says_something_else_is_refused(self, change, says: str, tmp_path: Path) -> None:
        folder = as_kaggle_has_it(tmp_path / "celeba")
        path = folder / "list_attr_celeba.csv"
        path.write_text(change(path.read_text()))
        with pytest.raises(InputError, match=says):
            celeba.load(Request("auto", tmp_path))

    def test_half_a_set_is_told_about(self, tmp_path: Path) -> None:
        folder = as_kaggle_has_it(tmp_path / "celeba")
        (folder / "list_eval_partition.csv").unlink()
        with pytest.raises(InputError, match=r"list_eval_partition.txt is missing: .* \(or .csv\)"):
            celeba.load(Request("auto", tmp_path))
        assert celeba_files.locate(tmp_path) == folder


@pytest.mark.parametrize(
    "path",
    [
        "rendered_chairs/1/renders/image_000_p020_t011_r096.png",
        "Rendered-Chairs/1/renders/image_000_p020_t011_r096.png",
        "3D chairs/rendered_chairs/1/renders/image_000_p020_t011_r096.png",
        "chairs/1/renders/image_000_p020_t011_r096.png",
        "rendered_chairs.TAR",
        "3dchairs.tar.gz",
    ],
)
def test_chairs_are_found_under_other_names(path: str, tmp_path: Path) -> None:
    (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / path).touch()
    found = rendered_chairs.locate(tmp_path)
    assert found is not None and (tmp_path / path).is_relative_to(found) and found != tmp_path


class TestSaid:
    """A folder that was named and does not serve is said, and what serves in its place."""

    NEAR = ("mnist.npz", "data/mnist_train.csv", "img_align_celeba.7z", "rendered_chairs.zip", "celeba-hq/1.jpg")

    @pytest.mark.parametrize("holds", ["nothing", "something else", "no folder", *NEAR])
    @pytest.mark.parametrize("name", ["rotated-mnist", "colored-mnist", "celeba", "chairs"])
    def test_in_the_list_and_on_loading(
        self,
        name: str,
        holds: str,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        root = tmp_path / "named"
        if holds != "no folder":
            root.mkdir()
        if holds in self.NEAR:
            (root / holds).parent.mkdir(exist_ok=True)
            (root / holds).touch()
        elif holds == "something else":
            (root / "photo.jpg").touch()
        monkeypatch.setenv("PYRO_DISENT_DATA", str(root))
        found = registry.describe(name).origin
        said = f"$PYRO_DISENT_DATA {root} holds no "
        assert found.startswith("embedded") and said in found and "\n" not in found
        kind = {"celeba": ("img_align", "celeba"), "chairs": ("chairs",)}.get(name, ("mnist",))
        first = holds.split("/")[0]
        if holds in self.NEAR and any(holds.removeprefix("data/").startswith(each) for each in kind):
            assert f"{root / (holds if first == 'data' else first)} may be of it" in found
        assert caplog.records == []
        options = {"celeba": {"counts": TINY}, "chairs": {"counts": (1, 1, 1)}}.get(name, {})
        registry.load(name, **options)
        (record,) = caplog.records
        assert record.levelno == logging.WARNING and said in record.getMessage()
        assert "; used instead: embedded " in record.getMessage()

    @pytest.mark.parametrize("name", ["rotated-mnist", "celeba", "chairs"])
    def test_a_name_that_no_system_takes_is_a_folder_that_is_not_there(
        self, name: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("PYRO_DISENT_DATA", "/" + "x" * 5_000)
        assert registry.describe(name).origin.endswith("it does not exist)")
        with pytest.raises(InputError, match="does not exist"):
            registry.describe(name, root=Path("x" * 5_000))

    def test_a_folder_that_may_not_be_read_is_refused(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def denied(self: Path) -> bool:
            raise PermissionError(13, "Permission denied", str(self))

        monkeypatch.setenv("PYRO_DISENT_DATA", str(tmp_path))
        monkeypatch.setattr(Path, "is_file", denied)
        with pytest.raises(InputError, match=r"where MNIST was looked for, cannot be read .*Permission denied"):
            mnist.read(Request())

    @pytest.mark.parametrize("request_", [Request("embedded"), Request()])
    def test_nothing_where_nothing_was_named(self, request_: Request, caplog: pytest.LogCaptureFixture) -> None:
        rotated_mnist.load(request_)
        assert str(rotated_mnist.describe(request_)) == "embedded: sample of 10,000 digits"
        assert caplog.records == []

    def test_a_root_that_must_hold_it_says_what_is_near(self, tmp_path: Path) -> None:
        (tmp_path / "mnist.pkl.gz").touch()
        with pytest.raises(InputError, match=r"`data_root=.*` holds no MNIST: .*mnist.pkl.gz may be of it"):
            mnist.read(Request("auto", tmp_path))

    def test_in_the_table(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setenv("PYRO_DISENT_DATA", str(tmp_path / "absent"))
        list_data("auto", None)
        printed = "".join(re.findall(r"[^\s│]", capsys.readouterr().out))
        assert printed.count("holdsnoMNIST:itdoesnotexist") == 2
        assert "holdsno3Dchairs:itdoesnotexist" in printed


def pixels(low: float, high: float) -> np.ndarray:
    return np.linspace(low, high, 6 * 64, dtype=np.float64).reshape(6, 8, 8)


def brought_into_range(images: np.ndarray, advice: str) -> np.ndarray:
    """What comes of following the advice to the letter."""
    if "divide what goes to 255 by 255" in advice:
        images = images / 255
    if "(x + 1) / 2" in advice:
        images = (images + 1) / 2
    if "largest value that they may have" in advice:
        images = images / max(images.max(), 65_535 if "65535" in advice and images.max() > 4_095 else images.max())
    if "standard deviation" in advice:
        images = (images - images.min()) / (images.max() - images.min())  # as ever it was: all in [0, 1] again
    return images.clip(0, 1) if "clip" in advice else images


class TestAdvice:
    @pytest.mark.parametrize(
        ("low", "high", "advice"),
        [
            (0, 1.06, "clip"),
            (-0.02, 1, "clip"),
            (-0.1, 0.8, "clip"),
            (-1, 1, r"\(x \+ 1\) / 2"),
            (-1.05, 0.7, r"\(x \+ 1\) / 2"),
            (0, 255, "divide what goes to 255 by 255"),
            (-4, 259, "by 255 and clip the result"),
            (0, 4095, "largest value"),
            (0, 65535, "65535 where they have 16 bits"),
            (0, 7, "largest value"),
            (0, 100, "by the largest value that they may have"),
            (0, 127, "by the largest value that they may have"),
            (0, 200, "divide what goes to 255 by 255"),
            (-2.1, 2.6, "standard deviation"),
        ],
    )
    def test_fits_the_range(self, low: float, high: float, advice: str) -> None:
        with pytest.raises(InputError, match=rf"floats must be in \[0, 1\], and these go from .* to .*{advice}"):
            arrays.from_arrays(pixels(low, high))

    @given(st.floats(-1e4, 0.999), st.floats(1e-3, 1e6))
    def test_never_makes_it_worse(self, low: float, high: float) -> None:
        """Followed, all pixels are in [0, 1] or nearer to it, and no more than a sliver of their range is cut off."""
        assume(low < high and not (low >= 0 and high <= 1))
        images = np.linspace(low, high, 101)
        after = brought_into_range(images, how_to_scale(low, high))
        assert after.min() >= -0.13 and after.max() <= 1.13
        if low >= -0.25 and high <= 1.25:  # what overshoots is not made dark
            assert np.abs(after - images).max() <= 0.25
        if low >= 0 and high > 1.25:
            assert after.max() >= 0.06  # nor black: the darkest are 12 bits taken for 16

    @pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
    def test_what_is_no_number_is_called_that(self, value: float) -> None:
        images = pixels(0, 1)
        images[2, 0, :3] = value
        with pytest.raises(InputError, match=r"image 2 has a pixel of .*inf|nan.* 3 pixels are no finite numbers"):
            arrays.from_arrays(images)
        with pytest.raises(InputError, match="3 pixels are no finite numbers at all"):
            arrays.from_arrays(images)
