"""Speakers with voices and faces: one layout on disk for VoxCeleb2, LibriSpeech with drawn faces, and made talkers."""
