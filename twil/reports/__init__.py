"""What people read of finished models: comparisons, and the report of a run."""
