"""Drafts distilled from a target: ``ersd distill``."""
