"""A sample of what `python -m tests.fuzz.strangers` tries by the million."""

from tests.fuzz import strangers


def test_no_strangers_bytes_act_unseen_or_open_anything() -> None:
    strangers.main(2000, seed=7)
