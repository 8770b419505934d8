"""What matters in a network: attributions, importance criteria, measured sensitivity."""
