"""Training: recipes, the loop they share, and the stages that make a model of the procedural world.

`kinescribe.train.runs.train(recipe, settings)` does all of it; importing this package loads nothing else.
"""
