"""Learning from shards: reading, augmenting, the loop and its run; what pre-training and fine-tuning share."""
