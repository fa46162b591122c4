"""The host's packet filter: the content of its nft table, and the changes from one version to the
next.
"""
