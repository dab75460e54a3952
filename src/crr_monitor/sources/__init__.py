"""Where messages come from (files, folders, standard input), and where the rejected ones are kept.

A source only splits: it hands over bytes that look like one message, and says what could not even be split. What
the bytes mean is the decoder's business.
"""
