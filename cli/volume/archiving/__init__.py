"""Archives of volumes: their files, their streams, and the progress that is shown."""
