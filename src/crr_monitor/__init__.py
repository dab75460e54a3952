"""CRR Monitor: for every object version in a replicated S3 bucket, where its copies are and how long they took."""

__version__ = "0.1.0"
