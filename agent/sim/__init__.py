"""The simulated world: cars, a bench of simulated devices, a CSMS; for tests, the demo and rigs."""
