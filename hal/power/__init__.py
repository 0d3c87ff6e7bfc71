"""Drivers for DC power modules, and the CAN bus they share."""
