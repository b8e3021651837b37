"""Runtimes without controllers of their own (processes, containers): ours, in one long-lived supervisor.

Driver and supervisor meet in a directory: the driver writes what shall run, the supervisor what does run.
Files are replaced at once, so both may be killed at any instant and go on from what they find.
"""
