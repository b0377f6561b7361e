"""Curation of a finished data set: select from it, find its repetitions, remove from it what must go."""
