"""Typed messages between the processes: commands down, facts up."""
