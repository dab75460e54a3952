"""AWS: sessions and roles, discovery of replication rules, and the set-up that converges what events need to arrive.

boto3 is an optional dependency; it is imported when the first client is made.
"""
