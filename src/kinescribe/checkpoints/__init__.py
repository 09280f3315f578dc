"""Weights on disk: reading, checking, converting and keeping them. The only place that knows foreign names."""
