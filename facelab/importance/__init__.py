"""What matters in a network: attributions, criteria for layers, channels and neurons, and measured sensitivity."""
