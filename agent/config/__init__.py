"""Configuration of a station: the typed file it is built from, and the settings OCPP can see."""
