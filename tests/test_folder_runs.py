"""A folder's images are converted once, trained on, found again, and shown on the command line."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import pyro_disent
from pyro_disent.cli.main import main
from pyro_disent.data import registry
from pyro_disent.data.dataset import Source
from pyro_disent.data.images import store as image_store
from pyro_disent.data.own import folder
from pyro_disent.data.own.splits import Facts, data_set
from pyro_disent.errors import InputError
from pyro_disent.models.factored_vae import FactoredVAE
from pyro_disent.models.latents import Latent
from pyro_disent.models.networks import networks
from tests import forked
from tests.people import SIZE, contents, everything, flat, load, people, picture, splits

pytestmark = pytest.mark.usefixtures("elsewhere")


def test_images_of_every_kind_and_size_have_one_shape(tmp_path: Path) -> None:
    root = tmp_path / "faces"
    for place, (ending, mode, size) in enumerate(
        [
            ("png", "RGB", (40, 30)),
            ("jpg", "CMYK", (5, 90)),
            ("gif", "P", (64, 64)),
            ("tif", "I;16", (9, 8)),
            ("png", "RGBA", (1, 1)),
        ]
    ):
        for person in range(3):
            (root / f"{person}").mkdir(parents=True, exist_ok=True)
            Image.new(mode, size, 1).save(root / f"{person}" / f"{place}.{ending}")
    for size, channels in ((8, 1), (28, 3), (128, 1)):
        assert load(root, image_size=size, channels=channels).image_shape == (channels, size, size)


@pytest.mark.parametrize(("size", "channels"), [(28, 1), (32, 3), (64, 3), (128, 1)])
@pytest.mark.parametrize("network", ["mlp", "conv3x3", "conv4x4"])
def test_the_networks_follow_the_images(size: int, channels: int, network: str) -> None:
    shape = (channels, size, size)
    vae = FactoredVAE([Latent("z", 3), Latent("y", 2)], *networks(network)(shape, 5))
    assert vae.image_shape == shape and vae.encode(torch.rand(2, *shape))["z"][0].shape == (2, 3)
    assert vae.decode({"z": torch.zeros(2, 3), "y": torch.zeros(2, 2)}).shape == (2, *shape)


def test_images_are_converted_once_and_again_when_they_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = people(tmp_path / "faces")
    seen: list[int] = []
    prepared = registry.prepare(str(root), image_size=SIZE, progress=lambda done, total: seen.append(done))
    assert prepared.is_file() and seen == list(range(1, 49))
    before = load(root, progress=lambda *_: pytest.fail("converted again"))
    picture(0, 1).save(root / "person 0" / "view_0.png")
    os.utime(root / "person 0" / "view_0.png", ns=(0, 0))
    after = load(root)
    assert after.source.sha256 != before.source.sha256
    assert everything(after)[:2] == [(0, 1), (0, 1)]
    for changed in ({"image_size": 8}, {"channels": 1}):
        assert registry.prepare(str(root), **changed) != prepared
    monkeypatch.setattr(folder, "CONVERTER_VERSION", folder.CONVERTER_VERSION + 1)
    assert registry.prepare(str(root), image_size=SIZE) != prepared


def test_metadata_that_changes_is_other_data_of_the_same_pixels(tmp_path: Path) -> None:
    root = flat(tmp_path / "faces")
    before = load(root, pair_by="who")
    text = (root / "metadata.csv").read_text()
    for changed in (text.replace("-0.png,P5,0,left", "-0.png,P5,7,left"), text.replace("right", "middle")):
        (root / "metadata.csv").write_text(changed)
        after = load(root, pair_by="who", progress=lambda *_: pytest.fail("converted again"))
        assert after.source.sha256 != before.source.sha256
    (root / "metadata.csv").write_text(text.replace("file_name,who,place", "file_name,who, place"))
    assert load(root, pair_by="who").source.sha256 == before.source.sha256


def test_images_that_fill_the_memory_stay_on_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = people(tmp_path / "faces")
    in_memory = load(root)
    monkeypatch.setattr(image_store, "largest_in_memory", lambda: 0)
    mapped = load(root)
    assert isinstance(mapped.train.images, image_store.ImagesOnDisk) and contents(mapped) == contents(in_memory)
    index = torch.arange(40)
    one, other = (d.train.batch(index, torch.Generator().manual_seed(0)) for d in (in_memory, mapped))
    assert torch.equal(one.images, other.images)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.integers(2, 5), min_size=3, max_size=25),
    st.integers(0, 5),
    st.one_of(st.none(), st.integers(2, 40)),
)
def test_every_split_has_whole_identities_and_every_image_a_partner(
    sizes: list[int], seed: int, limit: int | None
) -> None:
    """The rule that folders and arrays have in common, with any number of identities of any sizes."""
    identity = np.repeat(np.arange(len(sizes)), sizes)
    pixels = torch.arange(len(identity)).to(torch.uint8)[:, None, None, None]
    data = data_set(
        "any",
        lambda rows: pixels[torch.from_numpy(rows)],
        Facts(len(identity), identity),
        identities="identities",
        seed=seed,
        limit=limit,
        source=Source("given", "", ""),
        options={},
    )
    seen = {name: identity[split.images[:].flatten()] for name, split in splits(data).items()}
    assert sum(len(set(people)) for people in seen.values()) <= len(sizes)
    held_out = max(1, round(len(sizes) / 10))
    assert len(set(seen["test"])) == len(set(seen["validation"])) == held_out
    for name, found in seen.items():
        counts = {who: int((found == who).sum()) for who in set(found)}
        assert min(counts.values()) >= 2
        if name != "train" or limit is None:
            assert all(count == sizes[who] for who, count in counts.items())
    if limit is None:
        assert sum(map(len, seen.values())) == len(identity)
    else:
        assert min(limit, len(seen["train"]) + 1) - 1 <= len(seen["train"]) <= limit


TINY: dict[str, Any] = {
    "batch_size": 8,
    "network": "mlp",
    "latents": {"z": 3, "y": 2},
    "options": {"image_size": SIZE, "skip_bad": True},
}


def test_a_run_on_a_folder_finds_it_again_and_refuses_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    root = people(tmp_path / "faces")
    (root / "person 0" / "view_0.png").write_bytes(b"")
    run = pyro_disent.fit("cycle", Path("faces"), out="run", max_steps=4, **TINY)
    assert run.record.fit.data == str(root) and ", 1 bad image skipped" in run.record.source.location
    monkeypatch.chdir("/")
    assert contents(run.data()) == contents(load(root, skip_bad=True))
    result = run.evaluate(seed=0)
    assert result.data == "faces" and "recall_at_1/z" in result.numbers
    picture(1, 0).save(root / "person 0" / "view_0.png")
    with pytest.raises(InputError, match=r"trained on data of sha256 .*faces has"):
        run.data()
    root.rename(tmp_path / "moved")
    with pytest.raises(InputError, match=r"no folder .*faces"):
        run.data()


def called(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    """The command line in this process: its exit code and what it said."""
    monkeypatch.setattr(sys, "argv", ["pyro-disent", *arguments])
    with pytest.raises(SystemExit) as stop:
        main()
    out, err = capfd.readouterr()
    return int(stop.value.code or 0), out, err


OPTIONS = ["--image-size", str(SIZE), "--network", "mlp", "--batch-size", "8", "--max-steps", "4", "--no-compile"]


def test_the_command_line_trains_resumes_measures_and_shows_a_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    root = flat(tmp_path / "faces")
    (root / "00-0.png").write_bytes(b"")
    folder_options = ["--pair-by", "who", "--skip-bad"]
    code, out, err = called(
        monkeypatch, capfd, "fit", "--method", "cycle+predictor", "--data", "faces", *OPTIONS, *folder_options
    )
    assert code == 0, err
    assert out.splitlines()[-1] == "runs/faces-cycle+predictor-1" and "1 bad image skipped (00-0.png is empty)" in out
    config = Path("runs/faces-cycle+predictor-1/config.json")
    settings = json.loads(config.read_text())
    assert settings["fit"]["data"] == str(root) and settings["edges"].keys() == {"place", "side"}
    assert settings["fit"]["options"] == {"image_size": SIZE, "pair_by": ["who"], "skip_bad": True}
    config.write_text(config.read_text().replace('"max_steps": 4', '"max_steps": 6'))
    code, out, err = called(monkeypatch, capfd, "fit", "--resume", str(config.parent))
    assert code == 0, err
    assert json.loads((config.parent / "checkpoints/last.json").read_text())["step"] == 6
    code, out, err = called(monkeypatch, capfd, "evaluate", str(config.parent))
    assert code == 0, err
    numbers = json.loads((config.parent / "evaluation.json").read_text())["numbers"]
    assert {"recall_at_1/z", "leak/side/z"} <= numbers.keys()


def test_bad_folders_are_one_sentence_and_nothing_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    root = flat(tmp_path / "faces")
    (root / "00-0.png").write_bytes(b"")
    for arguments, says in (
        (["--data", "faces", "--pair-by", "who"], "00-0.png is empty"),
        (["--data", "faces", "--pair-by", "whom"], "did you mean who?"),
        (["--data", "faces", "--skip-bad"], "no pairs"),
        (["--data", "faces", "--data-root", "."], "its own source"),
        (["--data", "face"], "there is no data set and no folder face"),
    ):
        code, out, err = called(monkeypatch, capfd, "fit", "--method", "cycle", *OPTIONS, *arguments)
        assert code == 2 and out == "" and says in err, err
        assert len(err.strip().splitlines()) == 1
    assert not (tmp_path / "runs").exists()


def test_a_new_process_shows_a_folder(tmp_path: Path) -> None:
    people(tmp_path / "faces", "jpg")
    result = forked.run("data", "show", "faces", "--image-size", "32", "--pairs", "6", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    said, path = (result.stdout.splitlines()[line] for line in (0, -1))
    assert "40 training images" in said and path == "faces-pairs.png" and (tmp_path / path).is_file()
