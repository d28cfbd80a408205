"""What a trained model's latents know: probes, leaks, identities in new views, and held-out bounds."""
