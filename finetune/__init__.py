"""Fine-tuning and evaluation: image Re-ID, text-to-image Re-ID and pi-VL."""
