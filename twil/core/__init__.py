"""What every room stands on, and what knows nothing of models: errors, files, the machine.

What writes an output holds it by `storage`; an error has a class in `errors`.
"""
