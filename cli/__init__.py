"""The command line: options, one library call, rendering."""
