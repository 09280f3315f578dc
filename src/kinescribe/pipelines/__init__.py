"""Tasks: a request and a model in, a video out."""
