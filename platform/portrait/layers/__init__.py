"""Building blocks of the networks: causal convolution, resampling, rotary positions."""
