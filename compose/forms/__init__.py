"""The forms that values take in Compose files, and how each becomes its one normal form. PURE.

A form reads a value of a file into its long form, and says how two values of it merge; the tables
in `keys/` are made of forms.
"""
