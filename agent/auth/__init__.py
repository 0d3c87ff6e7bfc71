"""Who may charge: pure decisions on tokens from list, cache, settings and the CSMS's word."""
