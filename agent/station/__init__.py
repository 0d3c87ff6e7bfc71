"""The station process: pure logic composed, and the shell that gives it devices, disk and a socket."""
