"""OCPP 2.0.1: station facts and commands as 2.0.1 messages.

Reading order: ``dialect`` (what happens when), ``transactions`` and ``metering`` (ledger rows to
messages), ``status``, ``commands``, ``variables``, ``charging``, ``messages`` (small payloads).

The ledger's facts have the shape of 2.0.1, so most of this is naming. An EVSE has one connector here,
number 1.
"""
