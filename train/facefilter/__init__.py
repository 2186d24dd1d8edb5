"""FaceFilter (Chung et al. 2020): a voice separated by a still photo of its speaker."""
