"""Monitoring of variables: when a monitor speaks, which monitors there are, and how often they may speak.

Charter: pure values and rules of OCPP 2.0.1 block N. Values come from the station, what is found goes back to it;
``agent.station.monitoring`` brings the two together. Reading order: ``rules``, ``book``, ``hard_wired``, ``allowance``.
"""
