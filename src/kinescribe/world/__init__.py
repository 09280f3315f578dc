"""Papercut, the procedural world of captioned clips: attributes and seeds in, pictures and captions out."""
