"""What can be wrong with a file that should be a receipt."""

from __future__ import annotations


class ReceiptError(ValueError):
    """This is no receipt of ours: ``place`` says where in it, ``why`` what is wrong there."""

    def __init__(self, place: str, why: str) -> None:
        super().__init__(f"{place}: {why}")
        self.place, self.why = place, why
