"""Receipts and reports: what a transaction came to, signed, checkable by anybody with the printed key.

Where to look: ``books`` (ledger rows to usage and readings), ``record`` (those as meter records), ``facts`` (what
goes into a receipt), ``receipt`` (the bytes that get signed) and ``account`` (the money in them), ``seal`` (their
frame), ``read`` (bytes to a receipt), ``verdicts`` (is it true) with ``consistency``, ``prices`` and ``sums``,
``view`` (what a person is shown), ``words`` (numbers and times in it), ``text`` and ``html`` (the view as a
document), ``page`` (a receipt out of any file), ``forms`` (all of them by name), ``report`` (many receipts),
``software`` (what made them).
"""
