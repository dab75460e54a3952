"""How S3 is reached, as a value that can be handed to another process."""

from __future__ import annotations

import importlib
import importlib.util
from typing import Any

from msgspec import Struct

from crr_monitor.history.driver import HistoryError


class Reach(Struct, frozen=True):
    """Region, profile and endpoint, as the options gave them."""

    region: str | None = None
    profile: str | None = None
    endpoint_url: str | None = None

    def client(self) -> Any:  # noqa: ANN401 - boto3's
        """A client for S3.

        Raises:
            HistoryError: boto3 is missing, or the profile is.
        """
        if importlib.util.find_spec("boto3") is None:
            message = "s3:// needs boto3: pip install 'crr-monitor[aws]'"
            raise HistoryError(message)
        boto3 = importlib.import_module("boto3")
        config = importlib.import_module("botocore.config").Config(
            connect_timeout=10, read_timeout=60, retries={"mode": "standard", "total_max_attempts": 5}
        )
        failed = importlib.import_module("botocore.exceptions").BotoCoreError
        try:
            session = boto3.Session(profile_name=self.profile, region_name=self.region)
            return session.client("s3", endpoint_url=self.endpoint_url, config=config)
        except failed as error:
            message = f"S3 cannot be reached: {error} (sign in, or name a profile with --profile)"
            raise HistoryError(message) from error
