"""Tables as programs write them, and names of files as people write them."""

from __future__ import annotations

import csv
import io
import re
import unicodedata
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pyro_disent.data.own.file_names import FileNames
from pyro_disent.data.own.metadata import read_metadata
from pyro_disent.errors import InputError
from tests.folders import PEOPLE, load, of_people, tree, where


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYRO_DISENT_CACHE", str(tmp_path / "cache"))


CELLS = st.text("abzé漢0 .,;|\"'=-\n", max_size=6).map(lambda text: " ".join(text.split(" ")).strip())
ENCODINGS = ["utf-8", "utf-8-sig", "utf-16", "utf-32"]


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows=st.lists(st.tuples(st.text("abé漢.", min_size=1, max_size=5), CELLS, CELLS), min_size=1, max_size=4),
    delimiter=st.sampled_from(",;\t|"),
    encoding=st.sampled_from(ENCODINGS),
    newline=st.sampled_from(["\n", "\r\n", "\r"]),
    quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
    index=st.booleans(),
    place=st.integers(0, 2),
)
def test_a_table_is_read_however_its_cells_are_apart_and_its_letters_are_written(
    tmp_path: Path,
    rows: list[tuple[str, str, str]],
    delimiter: str,
    encoding: str,
    newline: str,
    quoting: int,
    index: bool,
    place: int,
) -> None:
    columns = ["größe", "who, really"]
    columns.insert(place, "file_name")
    text = io.StringIO(newline="")
    writer = csv.writer(text, delimiter=delimiter, lineterminator="\n", quoting=quoting)
    writer.writerow([""] * index + columns)
    expected = []
    for number, (name, *others) in enumerate(rows):
        row = list(others)
        row.insert(place, name)
        writer.writerow([str(number)] * index + row)
        expected.append(row)
    path = tmp_path / "metadata.csv"
    path.write_bytes(text.getvalue().replace("\n", newline).encode(encoding))
    table = read_metadata(path)
    assert table.columns == columns and [row for _, row in table.rows] == expected
    assert any("index" in note for note in table.notes) == index


@pytest.mark.parametrize(
    ("header", "rows", "columns"),
    [
        (",file_name,who", ["0,a.png,x", "1,b.png,y"], ["file_name", "who"]),
        ("Unnamed: 0,file_name,who", ["0,a.png,x", "7,b.png,y"], ["file_name", "who"]),
        ("file_name,who,,", ["a.png,x,,", "b.png,y,,"], ["file_name", "who"]),
        ("file_name,who", ["a.png,x,", "b.png,y,,"], ["file_name", "who"]),
        ("file_name,who", ["a.png,x", "", " , ", "b.png,y"], ["file_name", "who"]),
    ],
)
def test_columns_that_programs_add_are_no_columns(
    header: str, rows: list[str], columns: list[str], tmp_path: Path
) -> None:
    path = tmp_path / "metadata.csv"
    path.write_text("\n".join([header, *rows]))
    table = read_metadata(path)
    assert table.columns == columns and [row for _, row in table.rows] == [["a.png", "x"], ["b.png", "y"]]


def test_excels_line_that_names_the_delimiter_is_no_header(tmp_path: Path) -> None:
    path = tmp_path / "metadata.csv"
    path.write_text("sep=;\r\nfile_name;who\r\na.png;x\r\n")
    assert read_metadata(path)[:2] == (["file_name", "who"], [(3, ["a.png", "x"])])


def test_commas_within_numbers_are_decimal_points_where_semicolons_lie_between(tmp_path: Path) -> None:
    path = tmp_path / "metadata.csv"
    path.write_text("file_name;size;price;name\na,1.png;1,5;1.000,5;a,5\nb.png;-,25;2,5;7,5\nc.png;;NA;8\n")
    table = read_metadata(path)
    assert [row[:2] for _, row in table.rows] == [["a,1.png", "1.5"], ["b.png", "-.25"], ["c.png", ""]]
    assert any("decimal points in size" in note for note in table.notes)
    path.write_text('file_name,size\na.png,"1,5"\n')
    assert read_metadata(path).rows == [(2, ["a.png", "1,5"])]


OTHER_FILES = {
    "spreadsheet": (b"PK\x03\x04rest", "is not CSV but a spreadsheet or another zip archive: export it as CSV"),
    "old spreadsheet": (b"\xd0\xcf\x11\xe0\xa1\xb1", "is not CSV but an old spreadsheet"),
    "parquet": (b"PAR1....", "is not CSV but Parquet"),
    "gzip": (b"\x1f\x8b\x08rest", "is not CSV but compressed by gzip"),
    "JSON lines": (b'{"file_name": "a.png"}\n', "is not CSV but JSON"),
    "JSON": (b'[{"file_name": "a.png"}]\n', "is not CSV but JSON"),
    "UTF-16 without a mark": ("file_name,who\na.png,x".encode("utf-16-le"), "UTF-16 without a byte order mark"),
    "Latin-1": ("file_name,who\na.png,x\nb.png,é".encode("latin-1"), "is not UTF-8: .* in line 3; save it as UTF-8"),
    "half of UTF-16": ("file_name,who".encode("utf-16")[:-1], "is not UTF-16"),
    "delimiter unknown": (b"file_name#who\na.png#x", "has no column file_name: its columns are file_name#who"),
    "two at once": (b"file_name;who\na.png,x", r"line 2 of metadata.csv has 1 cells instead of 2"),
}


@pytest.mark.parametrize(("content", "says"), OTHER_FILES.values(), ids=OTHER_FILES)
def test_what_is_no_such_table_is_named_for_what_it_is(content: bytes, says: str, tmp_path: Path) -> None:
    tree(tmp_path / "faces", ["a.png", "b.png"])
    (tmp_path / "faces/metadata.csv").write_bytes(content)
    with pytest.raises(InputError, match=says):
        load(tmp_path / "faces")


@pytest.mark.parametrize("name", ["metadata.csv", "Metadata.CSV", "metadata.tsv"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_factors_and_pairs_are_the_same_from_every_kind_of_table(name: str, delimiter: str, tmp_path: Path) -> None:
    names = tree(tmp_path / "faces", [f"{i}.png" for i in range(10)])
    rows = [delimiter.join(["file_name", "who", "light"])]
    rows += [delimiter.join([image, f"p{i // 2}", str(i % 2)]) for i, image in enumerate(names)]
    (tmp_path / "faces" / name).write_text("\n".join(rows), encoding="utf-16")
    data = load(tmp_path / "faces", pair_by="who")
    assert [factor.name for factor in data.factors] == ["light"]
    assert sorted(map(len, where(data, names).values())) == [2, 2, 6]


WRITTEN: dict[str, Callable[[str], str]] = {
    "as it is": lambda name: name,
    "composed": lambda name: unicodedata.normalize("NFC", name),
    "decomposed": lambda name: unicodedata.normalize("NFD", name),
    "Windows": lambda name: name.replace("/", "\\"),
    "from here": lambda name: f"./{name}",
    "from here, Windows": lambda name: ".\\" + name.replace("/", "\\"),
    "with the folder's name": lambda name: f"the faces/{name}",
    "with the folder's name, Windows": lambda name: "The Faces\\" + name.replace("/", "\\"),
    "large letters": str.upper,
    "no-break spaces": lambda name: name.replace(" ", "\u202f"),
    "from the root": lambda name: f"/data/the faces/{name}",
}
PATHS = st.lists(
    st.text("aBéñß漢 -_1", min_size=1, max_size=6).map(str.strip).filter(bool), min_size=1, max_size=3
).map(lambda parts: "/".join(parts) + ".png")


@settings(max_examples=200, deadline=None)
@given(
    names=st.lists(
        PATHS, min_size=1, max_size=6, unique_by=lambda name: unicodedata.normalize("NFKD", name).casefold()
    ),
    on_disk=st.sampled_from(["NFC", "NFD"]),
    how=st.sampled_from(list(WRITTEN)),
    also=st.sampled_from(list(WRITTEN)),
)
def test_a_name_means_the_file_that_people_mean(names: list[str], on_disk: str, how: str, also: str) -> None:
    files = [unicodedata.normalize(on_disk, name) for name in names]  # type: ignore[arg-type]
    known = FileNames(Path("/data/the faces"), files)
    for name, file in zip(names, files, strict=True):
        written = WRITTEN[how](WRITTEN[also](name) if "root" not in also and "folder" not in also else name)
        assert known.find(written) == file


def test_a_name_that_is_a_files_means_that_one_and_one_that_may_mean_two_neither() -> None:
    known = FileNames(
        Path("/faces"), ["a.png", "A.png", "é/b.png", "e\u0301/b.png", "faces/c.png", "c.png", "d\\e.png"]
    )
    assert known.find("a.png") == "a.png" and known.find("A.png") == "A.png" and known.find("d\\e.png") == "d\\e.png"
    assert known.find("é/b.png") == "é/b.png" and known.find("e\u0301/b.png") == "e\u0301/b.png"
    assert known.find("faces/c.png") == "faces/c.png" and known.find("c.png") == "c.png"
    assert known.find("a.PNG") is None and known.why_not("a.PNG") == "which may be any of a.png, A.png"


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("anna/0", "anna/0.png is, which ends otherwise"),
        ("anna/0.jpg", "anna/0.png is, which ends otherwise"),
        ("zoe.png", "other/zoe.png is, which lies in another folder"),
        ("anan/zoe.png", "other/zoe.png is, which lies in another folder"),
        ("carl/picture_of_carl_01.png", r"did you mean carl/picture_of_karl_01.png\?"),
        ("nothing like it", "which is not there$"),
    ],
)
def test_a_name_that_is_no_files_is_told_from_those_that_are(name: str, says: str) -> None:
    known = FileNames(Path("/faces"), ["anna/0.png", "other/zoe.png", "carl/picture_of_karl_01.png"])
    assert known.find(name) is None
    assert re.search(says, known.why_not(name))


@pytest.mark.parametrize("how", WRITTEN)
def test_a_table_written_on_another_system_names_the_images_here(how: str, tmp_path: Path) -> None:
    root = tmp_path / "the faces"
    names = tree(root, [unicodedata.normalize("NFD", f"José né{who}/{i}.png") for who in PEOPLE for i in (0, 1)])
    written = [WRITTEN[how](name).replace("/data/the faces", str(root)) for name in names]
    (root / "metadata.csv").write_text(
        "\n".join(["file_name,age", *(f'"{name}",{i}' for i, name in enumerate(written))])
    )
    data = load(root)
    assert sum(map(len, where(data, names).values())) == 10 and [factor.name for factor in data.factors] == ["age"]


def test_two_lines_for_one_file_are_told_however_they_are_written(tmp_path: Path) -> None:
    names = tree(tmp_path / "faces", of_people())
    rows = ["file_name,age", *(f"{name},1" for name in names), "ANNA\\0.png,2"]
    (tmp_path / "faces/metadata.csv").write_text("\n".join(rows))
    with pytest.raises(InputError, match=r"line 12 of metadata.csv names anna/0.png a second time"):
        load(tmp_path / "faces")


@pytest.mark.parametrize(
    "name", ["..\\x.png", "a\\..\\..\\x.png", "C:\\x.png", "\\\\server\\x.png", "/x.png", "../x.png"]
)
def test_a_name_leads_out_of_the_folder_on_no_system(name: str, tmp_path: Path) -> None:
    tree(tmp_path / "faces", ["a.png"])
    tree(tmp_path, ["x.png"])
    (tmp_path / "faces/metadata.csv").write_text(f"file_name,age\n{name},1")
    with pytest.raises(InputError, match="does not lie in this folder"):
        load(tmp_path / "faces", skip_bad=True)
