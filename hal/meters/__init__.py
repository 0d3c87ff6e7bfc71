"""Energy meters: register maps as data, and the drivers that read them."""
