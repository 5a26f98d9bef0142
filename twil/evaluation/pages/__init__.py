"""What pages are made of: elements, tables and charts, without scripts.

How a page looks lies in `evaluation/templates`, colours of pictures in `figure`; a kind of chart is a module.
"""
