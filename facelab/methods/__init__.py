"""One module per published method: its layers, losses and algorithm, nothing else."""
