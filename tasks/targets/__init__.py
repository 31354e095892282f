"""What a stage does for a target: one module per target behind one seam."""
