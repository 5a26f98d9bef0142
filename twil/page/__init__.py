"""Self-contained HTML pages: a tree of elements, tables, and charts drawn as SVG."""
