"""Where data come from: an explicit folder, the environment, the cache, what is embedded, in this order."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyro_disent.data.sources import KINDS, Origin, Places, Request, cache_dir, limited, sha256_of_files
from pyro_disent.errors import InputError


def marked(root: Path) -> Path | None:
    return root / "toy" if (root / "toy").exists() else None


TOY = Places("toys", "a folder named toy", marked, cached=marked, address="the toy shop", embedded="ten toys")


def holding(root: Path) -> Path:
    (root / "toy").mkdir(parents=True)
    return root


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PYRO_DISENT_DATA", raising=False)
    monkeypatch.setenv("PYRO_DISENT_CACHE", str(tmp_path / "cache"))


def test_auto_asks_root_then_environment_then_cache_then_embedded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert TOY.find(Request()) == Origin("embedded", None, "ten toys")
    holding(tmp_path / "cache")
    assert TOY.find(Request()) == Origin("cache", tmp_path / "cache" / "toy")
    monkeypatch.setenv("PYRO_DISENT_DATA", str(holding(tmp_path / "named")))
    assert TOY.find(Request()) == Origin("local", tmp_path / "named" / "toy")
    root = holding(tmp_path / "root")
    assert TOY.find(Request("auto", root)) == Origin("local", root / "toy")


@pytest.mark.parametrize("there", [True, False])
def test_auto_passes_over_an_environment_without_the_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, there: bool
) -> None:
    (tmp_path / "named").mkdir() if there else None
    monkeypatch.setenv("PYRO_DISENT_DATA", str(tmp_path / "named"))
    assert TOY.find(Request()).kind == "embedded"


def test_an_explicit_root_must_hold_the_set_whatever_else_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    holding(tmp_path / "cache")
    monkeypatch.setenv("PYRO_DISENT_DATA", str(holding(tmp_path / "named")))
    (tmp_path / "empty").mkdir()
    for kind in ("auto", "local"):
        with pytest.raises(InputError, match=r"`data_root=.*empty` holds no toys: looked for a folder named toy"):
            TOY.find(Request.of(kind, tmp_path / "empty"))
        with pytest.raises(InputError, match=r"`data_root=.*absent` does not exist"):
            TOY.find(Request.of(kind, tmp_path / "absent"))


def test_local_is_pinned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    holding(tmp_path / "cache")
    with pytest.raises(InputError, match="`source=local` needs `data_root=DIR` or the environment variable"):
        TOY.find(Request("local"))
    monkeypatch.setenv("PYRO_DISENT_DATA", str(tmp_path / "named"))
    with pytest.raises(InputError, match=r"\$PYRO_DISENT_DATA .*named holds no toys"):
        TOY.find(Request("local"))
    holding(tmp_path / "named")
    assert TOY.find(Request("local")).kind == "local"


def test_embedded_and_download_are_pinned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    holding(tmp_path / "cache")
    monkeypatch.setenv("PYRO_DISENT_DATA", str(holding(tmp_path / "named")))
    assert TOY.find(Request("embedded")).kind == "embedded"
    assert TOY.find(Request("download")) == Origin("download", None, "the toy shop")


def test_a_set_without_address_or_stand_in_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be downloaded by this program: name its folder by `data_root`"):
        replace(TOY, address=None).find(Request("download"))
    for kind in ("auto", "embedded"):
        with pytest.raises(InputError, match=r"does not come with this package.*a folder named toy"):
            replace(TOY, embedded=None).find(Request.of(kind))


def test_nothing_is_cached_unless_said(tmp_path: Path) -> None:
    holding(tmp_path / "cache")
    assert replace(TOY, cached=None).find(Request()).kind == "embedded"


def test_what_is_typed_becomes_a_request(tmp_path: Path) -> None:
    assert [Request.of(kind).kind for kind in KINDS] == list(KINDS)
    assert Request.of("local", str(tmp_path)) == Request("local", tmp_path)
    with pytest.raises(InputError, match="`source=disk` is none of auto, local, download, embedded"):
        Request.of("disk")
    for kind in ("download", "embedded"):
        with pytest.raises(InputError, match=f"`source={kind}` reads no folder"):
            Request.of(kind, tmp_path)


def test_found_says_where() -> None:
    assert str(Origin("local", Path("here"))) == "local: here"
    assert str(Origin("embedded", None, "ten toys")) == "embedded: ten toys"


@given(st.integers(1, 10**6), st.integers(1, 10**6))
def test_a_limit_cuts_and_never_adds(limit: int, available: int) -> None:
    assert limited(limit, available) == min(limit, available)
    assert limited(None, available) == available


@given(st.integers(max_value=0))
def test_a_limit_below_one_is_refused(limit: int) -> None:
    with pytest.raises(InputError, match="must be 1 or more"):
        limited(limit, 10)


def test_the_cache_follows_its_variables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert cache_dir() == tmp_path / "cache"
    monkeypatch.delenv("PYRO_DISENT_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_dir() == tmp_path / "xdg" / "pyro-disent"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_dir() == tmp_path / ".cache" / "pyro-disent"


def test_one_hash_over_files_in_order(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    first.write_bytes(b"a" * 3_000_000)
    second.write_bytes(b"b")
    assert sha256_of_files(first, second) == hashlib.sha256(b"a" * 3_000_000 + b"b").hexdigest()
    assert sha256_of_files(second, first) != sha256_of_files(first, second)
