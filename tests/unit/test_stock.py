"""What the state takes of the disk, by kind."""

from pathlib import Path

from reconciler.metrics.disk_usage import KINDS, stock

KIB = 1024


def write(path: Path, size: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x" * size)


def test_each_kind_is_told_and_holes_take_nothing(tmp_path: Path) -> None:
    write(tmp_path / "git/main/objects/pack/one.pack", 64 * KIB)
    write(tmp_path / "layers/a/image", 128 * KIB)
    write(tmp_path / "kernels/k/vmlinuz", 32 * KIB)
    write(tmp_path / "ledger.db", 8 * KIB)
    for name in ("web", "db"):
        volume = tmp_path / f"vms/{name}/volumes/data.raw"
        write(volume, 16 * KIB)
        with volume.open("r+b") as file:
            file.truncate(1 << 30)
        write(tmp_path / f"vms/{name}/console.log", 256 * KIB)
    found = stock(tmp_path)
    assert tuple(found) == KINDS
    assert 64 * KIB <= found["mirror"] < 96 * KIB
    assert 128 * KIB <= found["layers"] < 160 * KIB
    assert 32 * KIB <= found["kernels"] < 64 * KIB
    assert 32 * KIB <= found["volumes"] < 64 * KIB
    assert found["snapshots"] == 0
    assert 8 * KIB <= found["ledger"] < 16 * KIB


def test_a_state_that_is_not_there_yet_takes_nothing(tmp_path: Path) -> None:
    assert stock(tmp_path / "none") == dict.fromkeys(KINDS, 0)
