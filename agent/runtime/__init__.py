"""Containers on this host: made by crun or runc, monitored by conmon, adopted after a restart."""
