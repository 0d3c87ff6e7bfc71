"""The evsed agent: station, gateway and installer processes of an EV charger."""
