"""Intake: an input file becomes jobs and slices, or a list of what is wrong with its lines."""
