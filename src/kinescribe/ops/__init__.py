"""Single operations: a plain reference of a few lines beside each fast version, with equal numbers."""
