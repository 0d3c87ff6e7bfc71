"""The ledger: facts on disk before anyone outside hears of them.

Charter: hash-chained rows that are only ever added, and beside them the little state that must
survive a restart. It stores bodies as the exact bytes it was given and knows nothing of what they
mean: not OCPP, not the core's types. One station process writes; any process may read meanwhile.

Reading order: ``rows`` (pure: the chain), ``state`` (pure: the small table), ``database`` (schema,
connections), ``tables`` (statements), ``reader``, ``store`` (opening, damage), ``writer`` (the one writer thread).
"""
