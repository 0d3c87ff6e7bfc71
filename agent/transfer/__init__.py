"""Files from elsewhere: a location becomes bytes that can be read in ranges, whatever the link does meanwhile.

Charter: ``remote.open_remote`` is the way in; it blocks and is used from a thread. ``location`` judges what somebody
from outside wrote; ``over_http``, ``over_ftp`` and ``from_disk`` each open a stream at an offset; ``remote`` turns
such streams into one file: resuming, skipping, limiting. What the bytes mean is not known here, and nothing here
makes them trustworthy: a bundle proves itself.

Of the rest of the agent only ``agent.firmware.errors`` is imported (and ``agent.firmware.ports.Source`` is met).
"""
