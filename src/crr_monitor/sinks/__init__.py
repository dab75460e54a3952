"""Where figures and news go: CloudWatch, OpenMetrics, SNS, a webhook. What they mean is declared in ``metrics``."""
