"""Signed meter records in the Open Charge Metering Format: writing, reading, judging, carrying."""
