"""The upstream programs that a cluster runs: local cache, release download, Go build."""

from hardway.binaries.cache import Binary
from hardway.binaries.fetch import CACHE, fetch
from hardway.binaries.site import Site

__all__ = ["CACHE", "Binary", "Site", "fetch"]
