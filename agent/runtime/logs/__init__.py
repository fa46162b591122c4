"""Reading the logs of containers, which conmon writes as k8s-file: one record per line,
`TIME STREAM P|F TEXT`; P marks a piece of a line that continues.
"""
