"""The state of every part of the station, in plain words: what is wrong, since when, and what to do.

Charter: pure values and rules. One catalogue names every trouble; a fold turns what is seen now into the state of
each part. Who sees it, and who is told, is the station's business.
"""
