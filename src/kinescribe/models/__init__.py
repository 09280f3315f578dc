"""The networks of the family.

Axes, everywhere: ``b`` batch, ``f`` frames, ``c`` channels, ``h w`` pixels or latents, ``n`` tokens,
``d`` features, ``e`` embedding.

Memory: a clip is logically ``b c f h w`` and lies channels-last, so that ``(b f) c h w`` (one picture a row),
``b c f (h w)`` (one pixel's history a column) and ``(b f) (h w) c`` (tokens) are views of the same bytes.
"""
