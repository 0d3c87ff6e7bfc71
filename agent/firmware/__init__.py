"""Signed A/B updates: what a bundle is, who may bring one, how it gets into a slot, and which slot boots.

Charter: ``machine`` (pure) decides when; ``bundle`` says whether; an engine writes; a boot selector picks. The
installer process is the only user of engines and selectors, and judges every bundle itself.
"""
