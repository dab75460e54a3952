"""What happens to a batch of messages: interpreted, merged, stored; and the figures read back from a store."""
