"""What a pretrained encoder has learned: masked pieces, the order of replies, the likelihood of texts."""
