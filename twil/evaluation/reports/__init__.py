"""Reports on a run and on models side by side: figures, pages and charts.

A section goes into its page's template; what it shows into `run_page` or `comparison_page`.
"""
