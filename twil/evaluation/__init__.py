"""What a model is worth, looked at from all sides; nothing here trains.

Another kind of model that can be scored goes into `classifiers`.
"""
