"""Tariffs to money: pure functions over values, no clock, no I/O, standard library only.

Where to look: ``model`` (the values), ``currency`` (minor units and rounding), ``number`` (numbers as written),
``parse`` (JSON to values, all problems at once), ``canonical`` (content hash), ``check`` (what is odd about a
tariff), ``calendar`` (local conditions and their boundaries), ``select`` (which price), ``usage`` (the fold of a
transaction to volumes), ``cost`` (volumes to a bill), ``prepaid`` (when a limit is used up), ``text`` (words for
people), ``quote`` (what a session would cost).
"""
