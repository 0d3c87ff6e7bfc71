"""The simulated world: a whole station among cars, people, a grid and a back office, in virtual time from one seed."""
