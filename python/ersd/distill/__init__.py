"""Making a draft for a target by distillation: ``ersd distill``; see `ersd.distill.run`."""
