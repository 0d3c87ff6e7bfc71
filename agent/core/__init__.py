"""The pure station: events in, effects out.

Nothing here imports asyncio, time, random, socket, os, logging or third-party code. Time comes with
each event (``at_ms``, monotonic); wall time arrives as an event and may jump.
"""
