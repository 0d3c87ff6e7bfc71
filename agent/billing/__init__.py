"""Receipts and reports: what a transaction came to, signed, checkable by anybody with the printed key.

Where to look: ``facts`` (what goes into a receipt), ``receipt`` (the bytes that get signed), ``account`` (the
money in it), ``read`` (bytes to a receipt), ``verdicts`` (is it true), ``view`` (what a person is shown),
``text`` and ``html`` (the view as a document), ``report`` (many receipts), ``software`` (what made them).
"""
