from __future__ import annotations

import base64
import json
import shutil

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mlsys import errors, images
from mlsys.collect import snapshot
from mlsys.readers import folders, registry
from mlsys.recipe import DataSection, Reading
from mlsys.schema import Kind, Role
from mlsys.store import Store
from pictures import encoded, folder, noise

BAD = 0.3


@pytest.fixture
def take(tmp_path):
    def run(source, target="label", **data):
        store = Store.open(tmp_path / "store")
        return snapshot.take(store, DataSection(source=str(source), **data), target=target, folder=tmp_path / "run")

    return run


def rows(taken):
    return pl.concat([pl.read_parquet(path) for path in taken.snapshot.paths])


def quarantined(tmp_path):
    return pl.read_parquet(tmp_path / "run" / "quarantine.parquet")


def test_a_folder_of_pictures_is_a_table_of_file_label_and_bytes(take, tmp_path):
    at = folder(tmp_path / "photos", 20)
    (at / "readme.md").write_text("no picture")
    taken = take(at)
    found = {column.name: (column.type, column.kind, column.role) for column in taken.snapshot.schema}
    assert found == {
        "file": ("string", Kind.CATEGORICAL, Role.ID),
        "label": ("string", Kind.CATEGORICAL, Role.TARGET),
        "image": ("binary", Kind.IMAGE, Role.FEATURE),
    }
    frame = rows(taken)
    assert frame["file"].to_list() == sorted(file.relative_to(at).as_posix() for file in at.rglob("*.png"))
    assert frame["label"].to_list() == ["lying"] * 10 + ["standing"] * 10
    assert all((at / name).read_bytes() == data for name, data in frame.select("file", "image").rows())
    assert taken.report["sources"][0]["name"] == "lying/0001.png … standing/0018.png"


def test_pictures_that_do_not_decode_go_to_quarantine_and_the_others_stay(take, tmp_path):
    at = folder(tmp_path / "photos", 20)
    (at / "lying" / "0001.png").write_bytes(b"<html>not found</html>")
    (at / "lying" / "0003.png").write_bytes((at / "lying" / "0005.png").read_bytes()[:-40])
    size = (at / "lying" / "0003.png").stat().st_size
    taken = take(at, max_bad_fraction=BAD)
    assert taken.report["num_rows"] == 18
    assert taken.report["quarantine"] == {
        "column 'image': neither PNG nor JPEG": {
            "rows": 1,
            "samples": ["22 bytes in 'lying/0001.png … standing/0018.png' row 0"],
        },
        "column 'image': cut short or damaged": {
            "rows": 1,
            "samples": [f"{size} bytes in 'lying/0001.png … standing/0018.png' row 1"],
        },
    }
    content = json.loads(quarantined(tmp_path)["content"][0])
    assert content["file"] == "lying/0001.png"
    assert base64.b64decode(content["image"]) == b"<html>not found</html>"
    with pytest.raises(errors.ContractError, match="column 'image': neither PNG nor JPEG"):
        take(at, max_bad_fraction=0.0)


def test_a_large_folder_is_read_in_pieces_with_the_same_rows(take, tmp_path, monkeypatch):
    at = folder(tmp_path / "photos", 20)
    whole = rows(take(at))
    monkeypatch.setattr(folders, "MAX_FILES", 7)
    assert [len(piece.files) for piece in registry.find(str(at), Reading())] == [7, 7, 6]
    assert rows(take(at)).equals(whole)


def test_the_fingerprint_of_a_folder_changes_with_any_of_its_files(tmp_path):
    at = folder(tmp_path / "photos", 4)
    before = registry.fingerprint(str(at), Reading()), registry.find(str(at), Reading())[0].digest()
    assert before == (registry.fingerprint(str(at), Reading()), registry.find(str(at), Reading())[0].digest())
    (at / "lying" / "0003.png").write_bytes(encoded(noise()))
    after = registry.fingerprint(str(at), Reading()), registry.find(str(at), Reading())[0].digest()
    assert before[0] != after[0]
    assert before[1] != after[1]


def test_bytes_that_begin_as_pictures_are_pictures_and_others_are_bytes(take, tmp_path):
    count = 20
    table = pa.table(
        {
            "photo": [encoded(noise(seed=n), "JPEG" if n % 2 else "PNG") if n != 3 else None for n in range(count)],
            "blob": [bytes([n]) * 9 for n in range(count)],
            "y": [n % 2 for n in range(count)],
        }
    )
    pq.write_table(table, tmp_path / "a.parquet")
    taken = take(tmp_path / "a.parquet", "y")
    assert taken.snapshot.schema["photo"].kind is Kind.IMAGE
    assert taken.snapshot.schema["blob"].kind is Kind.BYTES
    assert rows(taken)["photo"].null_count() == 1
    told = take(tmp_path / "a.parquet", "y", kinds={"photo": "bytes"})
    assert told.snapshot.schema["photo"].kind is Kind.BYTES
    with pytest.raises(errors.ContractError, match="20 × column 'blob': neither PNG nor JPEG"):
        take(tmp_path / "a.parquet", "y", kinds={"blob": "image"})


@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_paths_are_read_from_beside_the_table_so_that_a_snapshot_needs_no_other_file(take, tmp_path, form):
    folder(tmp_path / "set" / "photos", 20)
    names = sorted(file.relative_to(tmp_path / "set").as_posix() for file in (tmp_path / "set").rglob("*.png"))
    listed = [*names[:16], "photos/none.png", "", "https://a.test/b.png", f"file://{tmp_path}/set/{names[16]}"]
    frame = pl.DataFrame({"photo": listed, "y": [n % 2 for n in range(20)]})
    frame = frame.with_columns(pl.col("photo").replace("", None))
    file = tmp_path / "set" / f"table.{form}"
    frame.write_csv(file) if form == "csv" else frame.write_parquet(file)
    taken = take(tmp_path / "set", "y", kinds={"photo": "image"}, max_bad_fraction=BAD)
    expected = [(tmp_path / "set" / name).read_bytes() for name in names[:16]] + [None]
    expected.append((tmp_path / "set" / names[16]).read_bytes())
    shutil.rmtree(tmp_path / "set")
    assert rows(taken)["photo"].to_list() == expected
    assert taken.snapshot.schema["photo"].type == "binary"
    assert {rule: told["samples"] for rule, told in taken.report["quarantine"].items()} == {
        "column 'photo': no file there that can be read": [f"'photos/none.png' in 'table.{form}' row 16"],
        "column 'photo': https:// is not read": [f"'https://a.test/b.png' in 'table.{form}' row 18"],
    }


def test_a_file_that_is_too_large_or_no_file_is_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr(folders, "MAX_BYTES", 100)
    (tmp_path / "large.png").write_bytes(encoded(noise(30, 30)))
    kept, faults = folders.decoded_pictures(pa.array(["large.png", ".", "a\0b", None]), str(tmp_path / "table.csv"))
    assert kept.null_count == 4
    assert {reason: mask.to_pylist() for reason, mask in faults.items()} == {
        "more than 100 bytes": [True, False, False, False],
        "no file there that can be read": [False, True, True, False],
    }


def test_a_contract_that_says_image_is_kept(take, tmp_path):
    at = folder(tmp_path / "photos", 20)
    take(at)
    (at / "lying" / "0001.png").write_bytes(b"no picture")
    again = take(at, contract=str(tmp_path / "run" / "schema.yaml"), max_bad_fraction=BAD)
    assert list(again.report["quarantine"]) == ["column 'image': neither PNG nor JPEG"]


def test_large_rows_are_read_few_at_a_time(tmp_path, monkeypatch):
    from mlsys.readers import parquet

    monkeypatch.setattr(parquet, "BATCH_BYTES", 10_000)
    table = pa.table({"photo": [encoded(noise(20, 20, seed=n)) for n in range(40)]})
    pq.write_table(table, tmp_path / "a.parquet")
    piece = registry.find(str(tmp_path / "a.parquet"), Reading())[0]
    found = [batch.table.num_rows for batch in registry.batches(piece, Reading(), [])]
    assert sum(found) == 40
    assert max(found) <= 10_000 // 1200
    assert images.is_encoded(table["photo"][0].as_py())
