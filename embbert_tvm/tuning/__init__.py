"""Searching for faster schedules: tasks, candidates, measurement on a target, logs, and the farm."""
