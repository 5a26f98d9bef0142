"""What pages are made of: elements, tables and charts, without scripts.

Colours of pages are in `style.css`, of pictures in `figure`; a kind of chart is a module.
"""
