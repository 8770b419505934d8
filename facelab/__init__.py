"""Face analysis methods to learn, measure and explore; see `facelab list` and notebooks/00_start_here.ipynb."""
