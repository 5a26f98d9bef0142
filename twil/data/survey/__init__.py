"""What is to be known of tables before anything is learned from them: repeats, labels, lengths."""
