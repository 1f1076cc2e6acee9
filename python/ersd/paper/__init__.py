"""The experiment of the paper on any pair of models, and its report."""
