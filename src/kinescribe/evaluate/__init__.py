"""How good a model is: generated clips, judged from their pixels, in tables with their uncertainty."""
