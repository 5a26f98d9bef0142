"""What pages are made of: elements, tables and charts, without scripts; colours are in `style.css`."""
