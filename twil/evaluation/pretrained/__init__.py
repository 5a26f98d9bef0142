"""What a pretrained encoder has learned: masked tokens, the order of replies, likelihoods.

Another question to an encoder goes into `intrinsic`.
"""
