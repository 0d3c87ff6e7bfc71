"""Charging profiles to current limits: pure functions over values, no clock, no I/O, standard library only.

Where to look: ``profiles`` (the values), ``rules`` (may it be installed?), ``store`` (the installed set),
``records`` (plain dicts for disk and IPC), ``timeline`` (one profile over time), ``composite`` (all profiles
together: limits and schedules), ``sharing`` (one station limit over several EVSEs).
"""
