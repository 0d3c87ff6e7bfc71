"""OCPP: the link to the charging station management system (CSMS).

This level is the same for every version: framing, validation, the call session, back-off and the
WebSocket link. The packages below it (``v16``, ``v201``) translate messages to and from station
facts and load only when the CSMS picks them in the WebSocket handshake.

Reading order: ``version``, ``errors``, ``schema``, ``frames``, ``rpc``, ``session``, ``link``.
"""
