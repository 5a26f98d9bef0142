"""Reports on a run and on models side by side: their figures, and their pages and charts."""
