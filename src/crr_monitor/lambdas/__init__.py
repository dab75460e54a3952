"""Lambda functions: thin handlers over the rest, one file each."""
