"""The ledger: facts on disk before anyone outside hears of them.

Charter: hash-chained rows that are only ever added, and beside them the little state that must
survive a restart. It stores bodies as the exact bytes it was given and knows nothing of what they
mean: not OCPP, not the core's types. One station process writes; any process may read meanwhile.

Reading order: ``rows`` (pure: the chain), ``state`` and ``side_records`` (pure: what is kept beside it),
``schema``, ``database`` (connections), ``tables`` (statements), ``chain_check``, ``audit``, ``reader``, ``store``
(opening, damage), ``book`` (one commit), ``retention`` (removing the oldest rows), ``writer`` (the one writer
thread), ``space`` (the disk's room), ``stats`` and ``export`` (for people).
"""
