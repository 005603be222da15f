"""Training: recipes, objectives, optimisers, the loop, checkpoints, and the report on what was learned."""
