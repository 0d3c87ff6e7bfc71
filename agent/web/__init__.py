"""The local page and the metrics: HTTP beside the CSMS link, in the gateway, where the configuration asks for it."""
