"""How much the station is used: sums of hours, kept on the device. No billing data; nothing is decided by them."""
