"""Containers on this host: made by crun or runc, kept by conmon, found again after a restart."""
