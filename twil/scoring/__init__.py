"""What classifiers are worth: metrics, their names, and whether probabilities mean what they say."""
