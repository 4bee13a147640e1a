"""What the networks are built of: causal convolution, resampling, rotary positions."""
