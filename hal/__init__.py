"""Hardware abstraction: small ports with declared errors, and the drivers behind them."""
