"""Tables, labelled sets and batches, without torch."""
