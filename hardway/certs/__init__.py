"""The certificates of a cluster: looked at where they are, renewed before they end, issued to people."""
