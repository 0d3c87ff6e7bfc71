"""Who writes a slot: ``native`` streams our own bundles; others hand the work to an updater that is on the image."""
