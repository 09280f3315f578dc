"""Clips and pictures on disk: reading, fitting, writing, and the recipe that travels inside a clip.

Outside the network a clip is `uint8 (f h w 3)`: frames, height, width, RGB. Nothing here imports torch.
"""
