"""Token decisions, pure: local lists, cache, offline rules."""
