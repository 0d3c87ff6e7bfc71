"""The signed bundle: one file that carries an update, who may make one, and how one is made.

Charter: ``layout`` and ``parse`` read header and manifest; ``signatures`` and ``trust`` say whose word it is; ``head``
joins them into gate B; ``device`` asks whether this charger is meant; ``signer`` is gate A, OCPP's signature over the
whole file; ``chunks`` admits payload bytes one chunk at a time. ``description``, ``make`` and ``sign`` work at the
maker's desk and never on a charger. Format: ``docs/bundle-format.md``.
"""
