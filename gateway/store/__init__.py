"""What is durable: the database with its tables and migrations, sealed bodies, and the chain of events.

Refuses to know what its rows mean: rooms above (held mail, accounts) say that.
"""
