"""Reports on a run and on models side by side: figures, pages and charts.

A section of a report goes into `run_page`, of a comparison into `comparison_page`.
"""
