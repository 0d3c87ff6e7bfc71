"""Keys the station holds."""
