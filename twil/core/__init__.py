"""What every room stands on, and what knows nothing of texts or models: errors, files, the machine."""
