"""Device simulators that speak the real wire bytes on ptys and sockets."""
