"""Compose files: texts in, one normalised model out. PURE but for `files`, which reads them.

`loading.load` merges the files of a project by the rules of each key (`keys/`), and `finishing`
makes the model complete. docs/compose.md lists the keys.
"""
