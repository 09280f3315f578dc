"""Doors for scripts written for other packages: change the import, keep the rest.

Foreign spellings live here and in ``checkpoints`` only; everything behind a door is the ordinary pipeline.
"""
