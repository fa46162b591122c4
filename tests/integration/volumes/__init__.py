"""The files of volumes on a real kernel: `tar` in its jail, crashes, hostile archives."""
