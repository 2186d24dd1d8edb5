"""Audio-visual crowd counting, CC-AV and CC-V (Sajid et al. 2021)."""
