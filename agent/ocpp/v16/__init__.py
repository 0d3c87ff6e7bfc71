"""OCPP 1.6J: station facts and commands as 1.6 messages.

Reading order: ``dialect`` (what happens when), ``transactions`` and ``metering`` (ledger rows to
messages), ``status``, ``commands``, ``keys``, ``charging``, ``messages`` (small payloads).
"""
