"""What is to be known of tables before anything is learned from them.

Another look at the rows is a module that `survey` calls.
"""
