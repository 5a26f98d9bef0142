"""What pages are made of: elements, tables and charts, without scripts.

Colours and sizes are in `style.css`; a kind of chart is a module.
"""
