"""Drivers for control pilot boards: bytes on a serial line <-> the types of ``hal.ports``."""
