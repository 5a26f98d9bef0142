"""What is learned: masked tokens and reply order, labels, a teacher's answers.

A loss goes into `losses`.
"""
