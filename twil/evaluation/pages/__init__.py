"""What pages are made of: tables and charts, which templates lay out without scripts.

How a page looks lies in `evaluation/templates`, colours of pictures in `figure`; a kind of chart is a module.
"""
