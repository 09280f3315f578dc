"""Speed and memory of whole models: counted, planned and measured, never inside a model."""
