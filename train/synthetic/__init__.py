"""Synthetic talkers, faces and crowd scenes: seeded, no download."""
