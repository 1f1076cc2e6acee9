"""The paper's experiment on any pair of models, and its report: see `ersd.paper.run`."""
